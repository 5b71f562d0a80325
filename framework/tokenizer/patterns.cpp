#include "framework/tokenizer/patterns.h"

#include <fmt/format.h>

#include <memory>

#include "kernels/runtime/error.h"

namespace fourmi {

const std::vector<WordPattern>& word_patterns() {
  static const std::vector<WordPattern> patterns{
      {"gpt2", {gpt2_pattern}},
      {"cl100k",
       {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
      {"qwen2",
       {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
      {"deepseek-v3",
       {R"(\p{N}{1,3})", R"([一-龥぀-ゟ゠-ヿ]+)",
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}};
  return patterns;
}

const WordPattern& find_word_pattern(const std::string& name, const std::string& place) {
  std::string names;
  for (const WordPattern& pattern : word_patterns()) {
    if (pattern.name == name) return pattern;
    names += (names.empty() ? "" : ", ") + pattern.name;
  }
  throw Error(ExitStatus::usage, place, fmt::format("found {}, expected one of {}", name, names));
}

PreTokenizer pre_tokenizer_of(const WordPattern& pattern) {
  PreTokenizer steps;
  for (const std::string& regex : pattern.regexes)
    steps.push_back(
        {PreTokenizerStep::Kind::split, std::make_shared<const Regex>(regex, pattern.name), SplitBehavior::isolated});
  return steps;
}

}  // namespace fourmi
