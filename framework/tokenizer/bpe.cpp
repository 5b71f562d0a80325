#include "framework/tokenizer/bpe.h"

#include <fmt/format.h>

#include <utility>

#include "framework/tokenizer/nfc.h"
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
  for (AddedToken token : d.added_tokens) {
    if (token.normalized != normalized) continue;
    if (normalized && d.normalize_nfc) token.content = nfc(token.content);
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
      : tokenizer_(tokenizer), cutter_(tokenizer.definition_.pre_tokenizer), merger_(tokenizer.merges_) {}

  void append(std::string_view text, std::vector<std::int32_t>& out) override {
    if (tokenizer_.in_text_.empty()) return stretches(text, out);
    parts_.clear();
    tokenizer_.in_text_.cut(text, parts_);
    for (const AddedTokenFinder::Part& part : parts_)
      part.token >= 0 ? out.push_back(part.token) : stretches(part.text, out);
  }

 private:
  void stretches(std::string_view text, std::vector<std::int32_t>& out) {
    while (!text.empty()) {
      const std::size_t valid = utf8::valid_prefix(text);
      if (valid > 0) normalized(text.substr(0, valid), out);
      text.remove_prefix(valid);
      const std::size_t invalid = utf8::invalid_prefix(text);
      if (invalid > 0) word(text.substr(0, invalid), out);
      text.remove_prefix(invalid);
    }
  }

  void normalized(std::string_view text, std::vector<std::int32_t>& out) {
    if (tokenizer_.definition_.normalize_nfc && !surely_nfc(text)) {
      normal_ = nfc(text);
      text = normal_;
    }
    if (tokenizer_.in_normalized_.empty()) return words(text, out);
    normal_parts_.clear();
    tokenizer_.in_normalized_.cut(text, normal_parts_);
    for (const AddedTokenFinder::Part& part : normal_parts_)
      part.token >= 0 ? out.push_back(part.token) : words(part.text, out);
  }

  void words(std::string_view text, std::vector<std::int32_t>& out) {
    cutter_.cut(text, [&](std::string_view w) { word(w, out); });
  }

  void word(std::string_view w, std::vector<std::int32_t>& out) {
    WordCache::Place place{};
    const bool cached = w.size() <= WordCache::longest_word;
    if (cached && cache_.append(w, out, place)) return;
    const std::size_t before = out.size();
    if (const auto whole = tokenizer_.whole_words_.find(w); whole != tokenizer_.whole_words_.end())
      out.push_back(whole->second);
    else
      merger_.append(w, out);
    if (cached) cache_.put(w, place, out.data() + before, out.size() - before);
  }

  const BpeTokenizer& tokenizer_;
  WordCutter cutter_;
  Merger merger_;
  WordCache cache_;
  std::vector<AddedTokenFinder::Part> parts_, normal_parts_;
  std::string normal_;
};

BpeTokenizer::BpeTokenizer(TokenizerDefinition definition, const std::string& end_of_document, const std::string& key)
    : definition_(std::move(definition)),
      end_of_document_(choose_end_of_document(definition_, end_of_document, key)),
      merges_(definition_.bytes, definition_.merges),
      in_text_(chosen(definition_, false)),
      in_normalized_(chosen(definition_, true)) {
  if (!definition_.ignore_merges) return;
  for (std::size_t id = 0; id < definition_.contents.size(); ++id)
    if (definition_.used[id] && !definition_.added[id])
      whole_words_.emplace(definition_.contents[id], static_cast<std::int32_t>(id));
}

std::unique_ptr<Encoder> BpeTokenizer::make_encoder() const {
  return std::make_unique<BpeEncoder>(*this);
}

std::string BpeTokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  for (const std::int32_t token : tokens) {
    const bool known = token >= 0 && token < vocab_size() && definition_.used[static_cast<std::size_t>(token)];
    if (!known)
      throw Error(ExitStatus::input, name(),
                  fmt::format("token {}, an id of its vocabulary below {} was expected", token, vocab_size()));
    if (token != end_of_document_) text += definition_.contents[static_cast<std::size_t>(token)];
  }
  return text;
}

}  // namespace fourmi
