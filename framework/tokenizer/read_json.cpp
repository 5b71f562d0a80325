#include <unordered_map>

#include "framework/tokenizer/byte_level.h"
#include "framework/tokenizer/json_depth.h"
#include "framework/tokenizer/read_steps.h"

namespace fourmi {
namespace {

using namespace tokenizer_json_at;

class Reader {
 public:
  Reader(const Json& json, const std::string& place) : root_(json, place, "") { d_.place = place; }

  TokenizerDefinition run() {
    root_.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                "decoder", "model"});
    for (const char* key : {"truncation", "padding"})
      root_[key].is(root_[key].absent(), "null: texts are encoded whole, and one at a time");
    read_normalizer(root_["normalizer"], d_);
    const bool byte_level = read_pre_tokenizer(root_["pre_tokenizer"], d_);
    d_.alphabet = byte_level ? Alphabet::bytes : Alphabet::characters;
    read_vocabulary();
    read_merges();
    read_added_tokens();
    read_decoder(root_["decoder"], d_);
    return std::move(d_);
  }

 private:
  void put(std::int32_t id, std::string content, bool added) {
    const auto i = static_cast<std::size_t>(id);
    if (i >= d_.contents.size()) {
      d_.contents.resize(i + 1);
      d_.used.resize(i + 1, false);
      d_.added.resize(i + 1, false);
    }
    d_.contents[i] = std::move(content);
    d_.used[i] = true;
    d_.added[i] = added;
  }

  void read_vocabulary() {
    const At model = root_["model"];
    if (!model.value().is_object()) model.refuse("an object, the BPE model");
    // GPT-2's own file, and others of its age, do not say what they are.
    const bool unsaid = model["type"].absent() && model.has("merges");
    if (!unsaid && model.type() != "BPE") model["type"].refuse("\"BPE\"");
    const bool characters = d_.alphabet == Alphabet::characters;
    if (characters && !model["byte_fallback"].flag(false))
      model["byte_fallback"].refuse(
          "true, or a ByteLevel in pre_tokenizer: texts would lose the characters that are no "
          "token");
    model.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                "byte_fallback", "ignore_merges", "vocab", "merges"});
    const Json& dropout = model["dropout"].value();
    model["dropout"].is(dropout.is_null() || (dropout.is_number() && dropout.get<double>() == 0), "null: no dropout");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
      model[key].is(model[key].absent() || model[key].text().empty(), "null or \"\"");
    d_.ignore_merges = model["ignore_merges"].flag(false);
    const At vocab = model["vocab"];
    if (!vocab.value().is_object() || vocab.value().empty()) vocab.refuse("an object from tokens to ids");
    for (const auto& [written, unused] : vocab.value().items()) {
      const std::int32_t id = vocab[written].id();
      if (!ids_.emplace(written, id).second || is_used(id)) vocab[written].refuse("an id of its own");
      put(id, characters ? written : byte_level::bytes_of(written).value_or(written), false);
    }
    if (characters) d_.written = d_.contents;
    for (std::size_t b = 0; b < 256; ++b) {
      std::string written;
      if (characters)
        written = fmt::format("<0x{:02X}>", b);
      else
        utf8::append(written, byte_level::characters()[b]);
      const auto found = ids_.find(written);
      // A byte that is no token is the unknown one, as there: SmolLM2 lacks those that no text has.
      const auto known_byte = found != ids_.end() || characters || model["unk_token"].absent()
                                  ? found
                                  : ids_.find(model["unk_token"].text());
      if (known_byte == ids_.end())
        vocab.refuse(fmt::format("no token for the byte 0x{:02x} (written {})", b, written),
                     "one for each of the 256 bytes: texts would lose it");
      d_.bytes[b] = known_byte->second;
    }
  }
  bool is_used(std::int32_t id) const {
    return static_cast<std::size_t>(id) < d_.used.size() && d_.used[static_cast<std::size_t>(id)];
  }

  std::int32_t known(std::string_view written, const At& at) const {
    const auto found = ids_.find(std::string(written));
    if (found == ids_.end())
      at.refuse(fmt::format("'{}', which model.vocab does not have", written), "one of its tokens");
    return found->second;
  }

  void read_merges() {
    const At merges = root_["model"]["merges"];
    const std::size_t count = merges.array().size();
    d_.merges.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      const At merge = merges[i];
      std::string_view left, right;
      if (merge.value().is_string()) {
        const std::string_view both = merge.text();
        const std::size_t space = both.find(' ');
        if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos)
          merge.refuse("two tokens with a space between");
        left = both.substr(0, space);
        right = both.substr(space + 1);
      } else {
        if (!merge.value().is_array() || merge.value().size() != 2) merge.refuse("two tokens");
        left = merge[0].text();
        right = merge[1].text();
      }
      const std::int32_t l = known(left, merge), r = known(right, merge);
      d_.merges.push_back({l, r, known(std::string(left) + std::string(right), merge)});
    }
  }

  void read_added_tokens() {
    const At list = root_["added_tokens"];
    if (list.absent()) return;
    for (std::size_t i = 0; i < list.array().size(); ++i) {
      const At at = list[i];
      at.only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
      AddedToken token;
      token.id = at["id"].id();
      token.content = at["content"].text();
      if (token.content.empty()) at["content"].refuse("at least one character");
      token.special = at["special"].flag(false);
      token.normalized = at["normalized"].flag(!token.special);
      token.single_word = at["single_word"].flag(false);
      token.lstrip = at["lstrip"].flag(false);
      token.rstrip = at["rstrip"].flag(false);
      const auto in_vocab = ids_.find(token.content);
      if (in_vocab != ids_.end() ? in_vocab->second != token.id : is_used(token.id))
        at["id"].refuse(in_vocab != ids_.end() ? fmt::format("{}, its id in model.vocab", in_vocab->second)
                                               : "an id that no other token has");
      put(token.id, token.content, true);
      d_.added_tokens.push_back(std::move(token));
    }
  }

  At root_;
  TokenizerDefinition d_;
  std::unordered_map<std::string, std::int32_t> ids_;  ///< as model.vocab writes them
};

}  // namespace

TokenizerDefinition read_tokenizer_json(std::string_view json, const std::string& place) {
  if (is_json_deeper(json))
    throw Error(ExitStatus::input, place,
                fmt::format("more than {} arrays and objects in each other, a Hugging Face tokenizer.json was expected",
                            most_json_depth),
                "Fetch the file again, or name another");
  try {
    const Json root = Json::parse(json);
    return Reader(root, place).run();
  } catch (const Json::parse_error& error) {
    throw Error(ExitStatus::input, fmt::format("{}: byte {}", place, error.byte),
                "no JSON, a Hugging Face tokenizer.json was expected", "Fetch the file again, or name another");
  } catch (const Json::out_of_range&) {
    throw Error(ExitStatus::input, place,
                "a number too large for any program, a Hugging Face tokenizer.json was expected",
                "Fetch the file again, or name another");
  }
}

}  // namespace fourmi
