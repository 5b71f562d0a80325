#include "framework/tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "framework/tokenizer/utf8.h"
#include "framework/tokenizer/word_cache.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

/// What known tokenizers call the end of a document in pretraining: GPT-2 and Qwen, Llama 3, DeepSeek and Kimi, others.
constexpr const char* end_of_document_names[] = {
    "<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "[EOS]", "</s>", "<eos>"};

std::vector<AddedToken> chosen(const TokenizerDefinition& d, bool normalized) {
  std::vector<AddedToken> tokens;
  TextNormalizer normalizer(d.normalizer);
  for (AddedToken token : d.added_tokens) {
    if (token.normalized != normalized) continue;
    if (normalized) token.content = std::string(normalizer.apply(token.content));
    if (token.content.empty()) continue;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

std::int32_t choose_end_of_document(const TokenizerDefinition& d, const std::string& wish, const std::string& key) {
  const auto find = [&](std::string_view content) {
    for (const AddedToken& token : d.added_tokens)
      if (token.content == content) return token.id;
    return -1;
  };
  if (!wish.empty()) {
    if (const std::int32_t id = find(wish); id >= 0) return id;
    throw Error(
        ExitStatus::usage, key,
        fmt::format("'{}' was found, the content of one of the added_tokens of {} was expected", wish, d.place));
  }
  std::string names;
  for (const char* name : end_of_document_names) {
    if (const std::int32_t id = find(name); id >= 0) return id;
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  throw Error(ExitStatus::usage, key,
              fmt::format("{} has none of the added tokens {}, one that ends a document was expected", d.place, names),
              fmt::format("Name one of its added_tokens with {}", key));
}

}  // namespace

class BpeEncoder final : public Encoder {
 public:
  explicit BpeEncoder(const BpeTokenizer& tokenizer)
      : tokenizer_(tokenizer),
        normalizer_(tokenizer.definition_.normalizer),
        cutter_(tokenizer.definition_.pre_tokenizer),
        merger_(tokenizer.merges_) {
    const PreTokenizer& steps = tokenizer.definition_.pre_tokenizer;
    words_stay_ = std::all_of(steps.begin(), steps.end(),
                              [](const PreTokenizerStep& step) { return step.kind == PreTokenizerStep::Kind::split; });
  }

  void append(std::string_view text, std::vector<std::int32_t>& out) override {
    begin_ = text.data();
    if (tokenizer_.in_text_.empty()) return stretches(text, out);
    parts_.clear();
    tokenizer_.in_text_.cut(text, parts_);
    for (const AddedTokenFinder::Part& part : parts_)
      part.token >= 0 ? out.push_back(part.token) : stretches(part.text, out);
  }

 private:
  void stretches(std::string_view text, std::vector<std::int32_t>& out) {
    for (bool begins = true; !text.empty(); begins = false) {
      const bool begins_text = text.data() == begin_;
      const std::size_t valid = utf8::valid_prefix(text);
      if (valid > 0) normalized(text.substr(0, valid), begins, begins_text, out);
      text.remove_prefix(valid);
      const std::size_t invalid = utf8::invalid_prefix(text);
      if (invalid > 0) word(text.substr(0, invalid), out);
      text.remove_prefix(invalid);
    }
  }

  /// `begins`: the stretch follows an added token or nothing; `begins_text`: nothing.
  void normalized(std::string_view text, bool begins, bool begins_text, std::vector<std::int32_t>& out) {
    text = normalizer_.apply(text, begins);
    if (tokenizer_.in_normalized_.empty()) return words(text, begins_text, out);
    normal_parts_.clear();
    tokenizer_.in_normalized_.cut(text, normal_parts_);
    for (const AddedTokenFinder::Part& part : normal_parts_)
      part.token >= 0 ? out.push_back(part.token)
                      : words(part.text, begins_text && part.text.data() == text.data(), out);
  }

  void words(std::string_view text, bool begins_text, std::vector<std::int32_t>& out) {
    queued_ = 0;  // an error may have ended the text before
    cutter_.cut(
        text,
        [&](std::string_view w) {
          if (!tokenizer_.characters_) return sought(w, out);
          tokenizer_.characters_->cut(w, [&](std::string_view part) { sought(part, out); });
        },
        begins_text);
    found(out);
  }

  /// A word whose turn comes a few words later, when the cache's line is there; at once if its bytes may be gone then.
  void sought(std::string_view w, std::vector<std::int32_t>& out) {
    if (!words_stay_ || w.size() > WordCache::longest_word) {
      found(out);
      return word(w, out);
    }
    queue_[queued_++] = {w, cache_.ask(w)};
    if (queued_ == queue_.size()) found(out);
  }
  void found(std::vector<std::int32_t>& out) {
    for (std::size_t i = 0; i < queued_; ++i) short_word(queue_[i].word, queue_[i].place, out);
    queued_ = 0;
  }

  void word(std::string_view w, std::vector<std::int32_t>& out) {
    if (w.size() <= WordCache::longest_word) return short_word(w, cache_.ask(w), out);
    merged(w, out);
  }
  void short_word(std::string_view w, WordCache::Place place, std::vector<std::int32_t>& out) {
    if (cache_.append(w, out, place)) return;
    const std::size_t before = out.size();
    merged(w, out);
    cache_.put(w, place, out.data() + before, out.size() - before);
  }
  void merged(std::string_view w, std::vector<std::int32_t>& out) {
    if (const auto whole = tokenizer_.whole_words_.find(w); whole != tokenizer_.whole_words_.end()) {
      out.push_back(whole->second);
    } else if (tokenizer_.characters_) {
      tokenizer_.characters_->ids(w, first_);
      merger_.append_ids(first_, out);
    } else {
      merger_.append(w, out);
    }
  }

  const BpeTokenizer& tokenizer_;
  TextNormalizer normalizer_;
  WordCutter cutter_;
  Merger merger_;
  WordCache cache_;
  std::vector<AddedTokenFinder::Part> parts_, normal_parts_;
  std::vector<std::int32_t> first_;
  struct Sought {
    std::string_view word;
    WordCache::Place place;
  };
  std::array<Sought, 16> queue_;
  std::size_t queued_ = 0;
  bool words_stay_ = false;      ///< words are parts of the text that is cut, not of a step's own
  const char* begin_ = nullptr;  ///< of the text
};

BpeTokenizer::BpeTokenizer(TokenizerDefinition definition, const std::string& end_of_document, const std::string& key)
    : definition_(std::move(definition)),
      end_of_document_(choose_end_of_document(definition_, end_of_document, key)),
      merges_(definition_.bytes, definition_.merges),
      in_text_(chosen(definition_, false)),
      in_normalized_(chosen(definition_, true)) {
  const bool characters = definition_.alphabet == Alphabet::characters;
  if (characters)
    characters_.emplace(definition_.written, definition_.merges, definition_.bytes, definition_.ignore_merges);
  if (!definition_.ignore_merges) return;
  const std::vector<std::string>& entries = characters ? definition_.written : definition_.contents;
  for (std::size_t id = 0; id < entries.size(); ++id)
    if (!entries[id].empty() && (characters || !definition_.added[id]))
      whole_words_.emplace(entries[id], static_cast<std::int32_t>(id));
}

std::unique_ptr<Encoder> BpeTokenizer::make_encoder() const {
  return std::make_unique<BpeEncoder>(*this);
}

const std::string& BpeTokenizer::content(std::int32_t token) const {
  static const std::string nothing;
  const bool known = token >= 0 && token < vocab_size() && definition_.used[static_cast<std::size_t>(token)];
  if (!known)
    throw Error(ExitStatus::input, name(),
                fmt::format("token {}, an id of its vocabulary below {} was expected", token, vocab_size()));
  return token == end_of_document_ ? nothing : definition_.contents[static_cast<std::size_t>(token)];
}

std::string BpeTokenizer::decode_next(std::int32_t token, bool begins) const {
  std::string text = content(token);
  if (begins && definition_.strip_first_space && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

std::string BpeTokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  for (const std::int32_t token : tokens) text += content(token);
  if (definition_.strip_first_space && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

}  // namespace fourmi
