#include "framework/tokenizer/write_json.h"

#include <nlohmann/json.hpp>

#include "framework/tokenizer/byte_level.h"
#include "framework/tokenizer/patterns.h"

namespace fourmi {

std::string to_tokenizer_json(const LearntVocabulary& vocabulary, const std::string& pattern_name) {
  using Json = nlohmann::ordered_json;
  const auto num_special = vocabulary.special_tokens.size();
  const auto written = [&](std::int32_t id) {
    return byte_level::written(vocabulary.tokens[static_cast<std::size_t>(id)]);
  };
  const bool gpt2 = pattern_name == "gpt2";
  const Json byte_level{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", gpt2}};

  Json root;
  root["version"] = "1.0";
  root["truncation"] = nullptr;
  root["padding"] = nullptr;
  root["added_tokens"] = Json::array();
  for (std::size_t id = 0; id < num_special; ++id)
    root["added_tokens"].push_back({{"id", id},
                                    {"content", vocabulary.special_tokens[id]},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", true}});
  root["normalizer"] = nullptr;
  if (gpt2) {
    root["pre_tokenizer"] = byte_level;
  } else {
    Json steps = Json::array();
    for (const std::string& regex : find_word_pattern(pattern_name, "pattern").regexes)
      steps.push_back(
          {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}});
    steps.push_back(byte_level);
    root["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  }
  root["post_processor"] = nullptr;
  root["decoder"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  Json& model = root["model"];
  model = {{"type", "BPE"},
           {"dropout", nullptr},
           {"unk_token", nullptr},
           {"continuing_subword_prefix", nullptr},
           {"end_of_word_suffix", nullptr},
           {"fuse_unk", false},
           {"byte_fallback", false},
           {"ignore_merges", false}};
  Json& vocab = model["vocab"] = Json::object();
  auto& entries = vocab.get_ref<Json::object_t&>();
  entries.reserve(vocabulary.tokens.size());
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id)
    // Not by operator[]: an ordered object looks for the key among all.
    entries.std::vector<std::pair<const std::string, Json>>::emplace_back(
        id < num_special ? vocabulary.special_tokens[id] : written(static_cast<std::int32_t>(id)), id);
  Json& merges = model["merges"] = Json::array();
  for (const Merge& merge : vocabulary.merges) merges.push_back({written(merge.left), written(merge.right)});
  return root.dump(1) + "\n";
}

}  // namespace fourmi
