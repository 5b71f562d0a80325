#include <optional>
#include <utility>

#include "framework/tokenizer/byte_level.h"
#include "framework/tokenizer/json_depth.h"
#include "framework/tokenizer/read_steps.h"
#include "framework/tokenizer/vocabulary_lists.h"

namespace fourmi {
namespace {

using namespace tokenizer_json_at;

class Reader {
 public:
  Reader(TokenizerFile& file, const std::string& place) : file_(file), root_(file.rest, place, "") { d_.place = place; }

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
    if (!file_.has_lists) file_.lists = read_lists(model);
    const At vocab = model["vocab"];
    for (const auto& [written, id] : file_.lists.vocab) {
      if (is_used(id)) refuse_entry("vocab." + std::string(written), std::to_string(id), "an id of its own");
      std::optional<std::string> bytes;
      if (!characters) bytes = byte_level::bytes_of(written);
      put(id, bytes ? std::move(*bytes) : std::string(written), false);
    }
    if (characters) d_.written = d_.contents;
    for (std::size_t b = 0; b < 256; ++b) {
      std::string written;
      if (characters)
        written = fmt::format("<0x{:02X}>", b);
      else
        utf8::append(written, byte_level::characters()[b]);
      d_.bytes[b] = file_.lists.index.find(written);
      // A byte that is no token is the unknown one, as there: SmolLM2 lacks those that no text has.
      if (d_.bytes[b] < 0 && !characters && !model["unk_token"].absent())
        d_.bytes[b] = file_.lists.index.find(model["unk_token"].text());
      if (d_.bytes[b] < 0)
        vocab.refuse(fmt::format("no token for the byte 0x{:02x} (written {})", b, written),
                     "one for each of the 256 bytes: texts would lose it");
    }
  }
  bool is_used(std::int32_t id) const {
    return static_cast<std::size_t>(id) < d_.used.size() && d_.used[static_cast<std::size_t>(id)];
  }

  [[noreturn]] void refuse_entry(const std::string& key, const std::string& found, const std::string& expected) const {
    root_["model"][key].refuse(found, expected);
  }
  std::int32_t known(std::string_view written, std::size_t merge) const {
    const std::int32_t id = file_.lists.index.find(written);
    if (id < 0)
      refuse_entry(fmt::format("merges[{}]", merge), fmt::format("'{}', which model.vocab does not have", written),
                   "one of its tokens");
    return id;
  }

  void read_merges() {
    const auto& merges = file_.lists.merges;
    d_.merges.reserve(merges.size());
    std::string both;
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const auto& [left, right] = merges[i];
      both.assign(left).append(right);
      const std::int32_t l = known(left, i), r = known(right, i);
      d_.merges.push_back({l, r, known(both, i)});
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
      const std::int32_t in_vocab = file_.lists.index.find(token.content);
      if (in_vocab >= 0 ? in_vocab != token.id : is_used(token.id))
        at["id"].refuse(in_vocab >= 0 ? fmt::format("{}, its id in model.vocab", in_vocab)
                                      : "an id that no other token has");
      put(token.id, token.content, true);
      d_.added_tokens.push_back(std::move(token));
    }
  }

  TokenizerFile& file_;
  At root_;
  TokenizerDefinition d_;
};

}  // namespace

TokenizerDefinition read_tokenizer_json(std::string_view json, const std::string& place) {
  try {
    TokenizerFile file;
    if (read_quickly(json, file)) return Reader(file, place).run();
    if (is_json_deeper(json))
      throw Error(
          ExitStatus::input, place,
          fmt::format("more than {} arrays and objects in each other, a Hugging Face tokenizer.json was expected",
                      most_json_depth),
          "Fetch the file again, or name another");
    file = TokenizerFile();
    file.rest = Json::parse(json);
    return Reader(file, place).run();
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
