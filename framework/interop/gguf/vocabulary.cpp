#include "framework/interop/gguf/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_map>

#include "framework/tokenizer/patterns.h"
#include "framework/tokenizer/utf8.h"
#include "kernels/runtime/error.h"

namespace fourmi::interop {
namespace {

using Json = nlohmann::ordered_json;

enum TokenType : std::int64_t { normal = 1, unknown, control, user_defined, unused, byte };

constexpr const char* space = "\u2581";

/// What tokenizer.ggml.pre stands for. Source: llama.cpp's src/llama-vocab.cpp.
struct WordRule {
  const char* name;
  const char* pattern;  ///< of patterns.h; null: GPT-2's, built into ByteLevel
  bool single_digits, ignores_merges, nfc;
};
constexpr WordRule word_rules[] = {{"gpt-2", nullptr, false, false, false},
                                   {"smollm", nullptr, true, false, false},
                                   {"llama-bpe", "cl100k", false, true, false},
                                   {"llama3", "cl100k", false, true, false},
                                   {"llama-v3", "cl100k", false, true, false},
                                   {"qwen2", "qwen2", false, false, true},
                                   {"deepseek-v3", "deepseek-v3", false, false, false}};

class Vocabulary {
 public:
  explicit Vocabulary(const GgufHeader& header)
      : header_(header), tokens_(header.get<std::vector<std::string>>("tokenizer.ggml.tokens")) {
    types_ = header.get_or<std::vector<std::int64_t>>("tokenizer.ggml.token_type",
                                                      std::vector<std::int64_t>(tokens_.size(), normal));
    if (types_.size() != tokens_.size())
      refuse("token_type", fmt::format("{} entries, {} (one a token) were expected", types_.size(), tokens_.size()));
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (utf8::valid_prefix(tokens_[i]) != tokens_[i].size())
        refuse("tokens", fmt::format("token {} that is no UTF-8, text was expected", i));
      if (!ids_.emplace(tokens_[i], i).second)
        refuse("tokens", fmt::format("the token {} twice, once was expected", tokens_[i]));
    }
  }

  std::string json() {
    const auto& model = header_.get<std::string>("tokenizer.ggml.model");
    if (model != "gpt2" && model != "llama") refuse("model", fmt::format("{}, gpt2 or llama was expected", model));
    const bool bytes = model == "gpt2";
    Json root{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    root["added_tokens"] = added_tokens();
    root["normalizer"] = nullptr;
    root["pre_tokenizer"] = nullptr;
    root["post_processor"] = opening(!bytes);
    root["decoder"] = nullptr;
    root["model"] = {{"type", "BPE"},          {"dropout", nullptr},      {"unk_token", nullptr},
                     {"fuse_unk", !bytes},     {"byte_fallback", !bytes}, {"ignore_merges", false},
                     {"vocab", Json::object()}};
    auto& vocab = root["model"]["vocab"].get_ref<Json::object_t&>();
    vocab.reserve(tokens_.size());
    // Not by operator[]: an ordered object looks for the key among all.
    for (std::size_t i = 0; i < tokens_.size(); ++i)
      vocab.std::vector<std::pair<const std::string, Json>>::emplace_back(tokens_[i], i);
    bytes ? of_bytes(root) : of_characters(root);
    return root.dump() + "\n";
  }

 private:
  [[noreturn]] void refuse(const std::string& key, const std::string& what) const {
    throw Error(ExitStatus::input, fmt::format("{}: key tokenizer.ggml.{}", header_.place, key), what);
  }

  Json added_tokens() const {
    Json list = Json::array();
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const bool special = types_[i] == control || types_[i] == unknown;
      if (!special && types_[i] != user_defined) continue;
      list.push_back({{"id", i},
                      {"content", tokens_[i]},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", special}});
    }
    return list;
  }

  /// The token that a text begins with, if the model was trained so.
  Json opening(bool otherwise) const {
    if (!header_.get_or<bool>("tokenizer.ggml.add_bos_token", otherwise) || !header_.has("tokenizer.ggml.bos_token_id"))
      return nullptr;
    const auto id = header_.get<std::int64_t>("tokenizer.ggml.bos_token_id");
    if (id < 0 || id >= static_cast<std::int64_t>(tokens_.size()))
      refuse("bos_token_id", fmt::format("{}, an id below {} was expected", id, tokens_.size()));
    const std::string& token = tokens_[static_cast<std::size_t>(id)];
    const Json first{{"SpecialToken", {{"id", token}, {"type_id", 0}}}};
    const auto text = [](const char* name, int type) { return Json{{"Sequence", {{"id", name}, {"type_id", type}}}}; };
    Json post{{"type", "TemplateProcessing"}};
    post["single"] = Json::array({first, text("A", 0)});
    post["pair"] = Json::array({first, text("A", 0), text("B", 1)});
    post["special_tokens"][token] = {{"id", token}, {"ids", Json::array({id})}, {"tokens", Json::array({token})}};
    return post;
  }

  void of_bytes(Json& root) const {
    const auto& name = header_.get<std::string>("tokenizer.ggml.pre");
    const auto rule =
        std::find_if(std::begin(word_rules), std::end(word_rules), [&](const WordRule& r) { return name == r.name; });
    if (rule == std::end(word_rules)) {
      std::string names;
      for (const WordRule& known : word_rules) names += (names.empty() ? "" : ", ") + std::string(known.name);
      refuse("pre", fmt::format("{}, one of {} was expected", name, names));
    }
    Json steps = Json::array();
    if (rule->single_digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
    if (rule->pattern != nullptr)
      for (const std::string& regex : find_word_pattern(rule->pattern, "pattern").regexes)
        steps.push_back(
            {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}});
    steps.push_back({{"type", "ByteLevel"},
                     {"add_prefix_space", header_.get_or<bool>("tokenizer.ggml.add_space_prefix", false)},
                     {"trim_offsets", true},
                     {"use_regex", rule->pattern == nullptr}});
    root["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
    if (rule->nfc) root["normalizer"] = {{"type", "NFC"}};
    root["decoder"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
    root["model"]["ignore_merges"] = rule->ignores_merges;
    if (const auto unk = header_.get_or<std::int64_t>("tokenizer.ggml.unknown_token_id", -1);
        unk >= 0 && unk < static_cast<std::int64_t>(tokens_.size()))
      root["model"]["unk_token"] = tokens_[static_cast<std::size_t>(unk)];
    Json& merges = root["model"]["merges"] = Json::array();
    for (const std::string& merge : header_.get<std::vector<std::string>>("tokenizer.ggml.merges")) {
      if (utf8::valid_prefix(merge) != merge.size()) refuse("merges", "an entry that is no UTF-8, text was expected");
      merges.push_back(merge);
    }
  }

  /// SentencePiece joins the two neighbours whose piece has the best score: each way to cut a piece into two others is
  /// a merge, in the order of the scores.
  void of_characters(Json& root) const {
    const auto& scores = header_.get<std::vector<double>>("tokenizer.ggml.scores");
    if (scores.size() != tokens_.size())
      refuse("scores", fmt::format("{} entries, {} (one a token) were expected", scores.size(), tokens_.size()));
    struct Way {
      double score;
      std::size_t left, right;
    };
    std::vector<Way> ways;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const std::string_view piece = tokens_[i];
      if (types_[i] != normal || piece.size() > 1024) continue;
      if (scores[i] != scores[i]) refuse("scores", fmt::format("no number for token {}, one was expected", i));
      for (std::size_t cut = utf8::character(piece); cut < piece.size(); cut += utf8::character(piece.substr(cut))) {
        const auto left = ids_.find(piece.substr(0, cut)), right = ids_.find(piece.substr(cut));
        if (left != ids_.end() && right != ids_.end() && types_[left->second] == normal &&
            types_[right->second] == normal)
          ways.push_back({scores[i], left->second, right->second});
      }
    }
    std::sort(ways.begin(), ways.end(), [](const Way& a, const Way& b) {
      return std::tuple(-a.score, a.left, a.right) < std::tuple(-b.score, b.left, b.right);
    });
    Json& merges = root["model"]["merges"] = Json::array();
    for (const Way& way : ways) merges.push_back({tokens_[way.left], tokens_[way.right]});

    const auto replace = [](const char* pattern, const char* content) {
      return Json{{"type", "Replace"}, {"pattern", {{"String", pattern}}}, {"content", content}};
    };
    const bool opens = header_.get_or<bool>("tokenizer.ggml.add_space_prefix", true);
    Json before = Json::array(), after = Json::array({replace(space, " ")});
    if (opens) before.push_back({{"type", "Prepend"}, {"prepend", space}});
    before.push_back(replace(" ", space));
    after.push_back({{"type", "ByteFallback"}});
    after.push_back({{"type", "Fuse"}});
    if (opens) after.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    root["normalizer"] = {{"type", "Sequence"}, {"normalizers", before}};
    root["decoder"] = {{"type", "Sequence"}, {"decoders", after}};
    if (const auto unk = std::find(types_.begin(), types_.end(), unknown); unk != types_.end())
      root["model"]["unk_token"] = tokens_[static_cast<std::size_t>(unk - types_.begin())];
  }

  const GgufHeader& header_;
  const std::vector<std::string>& tokens_;
  std::vector<std::int64_t> types_;
  std::unordered_map<std::string_view, std::size_t> ids_;
};

}  // namespace

std::string gguf_tokenizer_json(const GgufHeader& header) {
  return Vocabulary(header).json();
}

}  // namespace fourmi::interop
