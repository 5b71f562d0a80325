#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "framework/tokenizer/byte_level.h"
#include "framework/tokenizer/definition.h"
#include "framework/tokenizer/utf8.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t most_ids = 1 << 24;

/// What the value is, short enough for a message.
std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, utf8::valid_prefix(std::string_view(text).substr(0, 77))) + "...";
  return text;
}

/// A value and its key ("pre_tokenizer.pretokenizers[0].pattern"), so that every refusal says where.
class At {
 public:
  At(const Json& value, const std::string& file, std::string key) : value_(value), file_(file), key_(std::move(key)) {}

  [[noreturn]] void refuse(const std::string& expected) const { refuse(shown(value_), expected); }
  [[noreturn]] void refuse(const std::string& found, const std::string& expected) const {
    throw Error(ExitStatus::input, place(), fmt::format("found {}, expected {}", found, expected));
  }
  std::string place() const { return key_.empty() ? file_ : fmt::format("{}: {}", file_, key_); }

  const Json& value() const { return value_; }
  bool has(const std::string& key) const { return value_.contains(key) && !value_[key].is_null(); }
  bool absent() const { return value_.is_null(); }
  At operator[](const std::string& key) const {
    static const Json null;
    return At(value_.contains(key) ? value_[key] : null, file_, key_.empty() ? key : key_ + "." + key);
  }
  At operator[](std::size_t i) const { return At(value_[i], file_, fmt::format("{}[{}]", key_, i)); }

  void only(std::initializer_list<std::string_view> keys) const {
    if (!value_.is_object()) refuse("an object");
    for (const auto& [key, unused] : value_.items()) {
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
      std::string list;
      for (const std::string_view known : keys) list += (list.empty() ? "" : ", ") + std::string(known);
      throw Error(ExitStatus::input, place(), fmt::format("found the key {}, expected {}", key, list));
    }
  }
  const std::string& text() const {
    if (!value_.is_string()) refuse("a string");
    return value_.get_ref<const std::string&>();
  }
  bool flag(bool otherwise) const {
    if (value_.is_null()) return otherwise;
    if (!value_.is_boolean()) refuse("true or false");
    return value_.get<bool>();
  }
  std::int32_t id() const {
    if (!value_.is_number_integer() || value_.get<std::int64_t>() < 0 || value_.get<std::int64_t>() >= most_ids)
      refuse(fmt::format("an id from 0 to {}", most_ids - 1));
    return value_.get<std::int32_t>();
  }
  const Json::array_t& array() const {
    if (!value_.is_array()) refuse("an array");
    return value_.get_ref<const Json::array_t&>();
  }
  void is(bool accepted, const std::string& expected) const {
    if (!accepted) refuse(expected);
  }

 private:
  const Json& value_;
  const std::string& file_;
  std::string key_;
};

class Reader {
 public:
  Reader(const Json& json, const std::string& place) : root_(json, place, "") { d_.place = place; }

  TokenizerDefinition run() {
    root_.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                "decoder", "model"});
    for (const char* key : {"truncation", "padding"})
      root_[key].is(root_[key].absent(), "null: texts are encoded whole, and one at a time");
    read_vocabulary();
    read_merges();
    read_added_tokens();
    read_normalizer();
    read_pre_tokenizer(root_["pre_tokenizer"]);
    if (!byte_level_)
      root_["pre_tokenizer"].refuse("a ByteLevel, alone or in a Sequence: only byte-level BPE is supported");
    read_decoder(root_["decoder"]);
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
    if (!model.has("type") || model["type"].text() != "BPE") model["type"].refuse("\"BPE\"");
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
      put(id, byte_level::bytes_of(written).value_or(written), false);
    }
    for (std::size_t b = 0; b < 256; ++b) {
      std::string written;
      utf8::append(written, byte_level::characters()[b]);
      const auto found = ids_.find(written);
      if (found == ids_.end())
        vocab.refuse(fmt::format("no token for the byte 0x{:02x} (written {})", b, written),
                     "one for each of the 256 bytes: texts would lose it");
      d_.bytes[b] = found->second;
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

  void read_normalizer() {
    const At normalizer = root_["normalizer"];
    if (normalizer.absent()) return;
    const Json& value = normalizer.value();
    const bool nothing = value.is_object() && value.value("type", "") == "Sequence" &&
                         value.value("normalizers", Json()).is_array() && value["normalizers"].empty();
    if (nothing) return;
    if (!value.is_object() || value.value("type", "") != "NFC") normalizer.refuse("null or {\"type\": \"NFC\"}");
    normalizer.only({"type"});
    d_.normalize_nfc = true;
  }

  void add_split(const std::string& pattern, SplitBehavior behavior, const std::string& place) {
    d_.pre_tokenizer.push_back(
        {PreTokenizerStep::Kind::split, std::make_shared<const Regex>(pattern, place), behavior});
  }

  void read_pre_tokenizer(const At& at) {
    const std::string type = at.value().is_object() && at.has("type") ? at["type"].text() : "";
    if (byte_level_) at.refuse("nothing after ByteLevel, which leaves bytes that no pattern fits");
    if (type == "Sequence") {
      at.only({"type", "pretokenizers"});
      for (std::size_t i = 0; i < at["pretokenizers"].array().size(); ++i) read_pre_tokenizer(at["pretokenizers"][i]);
    } else if (type == "Split") {
      read_split(at);
    } else if (type == "Digits") {
      at.only({"type", "individual_digits"});
      add_split(R"(\p{N})", at["individual_digits"].flag(false) ? SplitBehavior::isolated : SplitBehavior::contiguous,
                at.place());
    } else if (type == "ByteLevel") {
      at.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
      if (at["add_prefix_space"].flag(true)) d_.pre_tokenizer.push_back({PreTokenizerStep::Kind::prefix_space});
      if (at["use_regex"].flag(true)) add_split(gpt2_pattern, SplitBehavior::isolated, at.place());
      byte_level_ = true;
    } else {
      at.refuse("Sequence, Split, Digits or ByteLevel");
    }
  }

  void read_split(const At& at) {
    at.only({"type", "pattern", "behavior", "invert"});
    const std::string& name = at["behavior"].text();
    std::optional<SplitBehavior> behavior;
    if (name == "Isolated") behavior = SplitBehavior::isolated;
    if (name == "Contiguous") behavior = SplitBehavior::contiguous;
    if (name == "MergedWithPrevious") behavior = SplitBehavior::merged_with_previous;
    if (name == "MergedWithNext") behavior = SplitBehavior::merged_with_next;
    if (!behavior)
      at["behavior"].refuse("Isolated, Contiguous, MergedWithPrevious or MergedWithNext (Removed would lose text)");
    // What is a match makes no difference to Isolated and Contiguous.
    if (at["invert"].flag(false) && *behavior != SplitBehavior::isolated && *behavior != SplitBehavior::contiguous)
      at["invert"].refuse("false with " + name);
    const At pattern = at["pattern"];
    pattern.only({"Regex", "String"});
    if (pattern.has("Regex")) return add_split(pattern["Regex"].text(), *behavior, pattern["Regex"].place());
    std::string quoted;
    for (const char c : pattern["String"].text()) {
      if (std::ispunct(static_cast<unsigned char>(c))) quoted += '\\';
      quoted += c;
    }
    add_split(quoted, *behavior, pattern["String"].place());
  }

  void read_decoder(const At& at) {
    if (at.absent()) return;
    const std::string type = at.value().is_object() && at.has("type") ? at["type"].text() : "";
    if (type == "ByteLevel") return;
    if (type != "Sequence") at.refuse("ByteLevel, alone or in a Sequence");
    for (std::size_t i = 0; i < at["decoders"].array().size(); ++i) read_decoder(at["decoders"][i]);
  }

  At root_;
  TokenizerDefinition d_;
  std::unordered_map<std::string, std::int32_t> ids_;  ///< as model.vocab writes them
  bool byte_level_ = false;
};

}  // namespace

TokenizerDefinition read_tokenizer_json(std::string_view json, const std::string& place) {
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
