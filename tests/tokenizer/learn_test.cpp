// Learning a vocabulary: against Hugging Face's trainer, and against the definition counted anew at each merge.
#include "framework/tokenizer/learn.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "framework/tokenizer/patterns.h"
#include "framework/tokenizer/word_counts.h"
#include "framework/tokenizer/write_json.h"
#include "tests/tokenizer/goldens.h"

namespace fourmi {
namespace {

using Words = std::vector<std::pair<std::string, std::int64_t>>;

LearntVocabulary learnt(const std::string& text, const std::string& pattern, std::int64_t size) {
  const PreTokenizer steps = pre_tokenizer_of(find_word_pattern(pattern, "pattern"));
  WordCounter counter(steps);
  counter.add(text);
  return learn_vocabulary(counter.sorted(), {.vocab_size = size});
}

TEST(Learn, LearnsTheMergesOfHuggingFace) {
  const std::string text = test::golden("train.txt");
  const auto merges_of = [](const nlohmann::json& tokenizer) {
    std::vector<std::string> merges;
    for (const auto& merge : tokenizer["model"]["merges"])
      merges.push_back(merge.is_string() ? merge.get<std::string>()
                                         : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    return merges;
  };
  for (const auto& [pattern, size] : {std::pair{"gpt2", 700}, {"cl100k", 600}}) {
    const auto ours = nlohmann::json::parse(to_tokenizer_json(learnt(text, pattern, size), pattern));
    const auto theirs = nlohmann::json::parse(test::golden(std::string(pattern) + ".json"));
    EXPECT_EQ(merges_of(ours), merges_of(theirs)) << pattern;
    EXPECT_EQ(ours["model"]["vocab"], theirs["model"]["vocab"]) << pattern;
    EXPECT_EQ(ours["pre_tokenizer"], theirs["pre_tokenizer"]) << pattern;
  }
}

TEST(Learn, IsTheDefinition) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 20; ++round) {
    std::map<std::string, std::int64_t> counts;
    for (int i = 0; i < 60; ++i) {
      std::string word(1 + random() % 12, 'a');
      for (char& c : word) c = static_cast<char>('a' + random() % 3);
      counts[word] += static_cast<std::int64_t>(1 + random() % 5);
    }
    const Words words(counts.begin(), counts.end());
    const LearntVocabulary fast = learn_vocabulary(words, {.vocab_size = 330});

    // Again, slowly: count all pairs, take the best, join it everywhere.
    std::map<std::string, std::int32_t> ids;
    std::vector<std::string> tokens(fast.tokens.begin(), fast.tokens.begin() + 257);
    for (std::size_t id = 1; id < 257; ++id) ids[tokens[id]] = static_cast<std::int32_t>(id);
    std::vector<std::vector<std::int32_t>> symbols;
    for (const auto& [word, count] : words) {
      symbols.emplace_back();
      for (const char c : word) symbols.back().push_back(ids.at(std::string(1, c)));
    }
    std::vector<std::array<std::int32_t, 3>> merges;
    while (tokens.size() < 330) {
      std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> pairs;
      for (std::size_t w = 0; w < words.size(); ++w)
        for (std::size_t i = 0; i + 1 < symbols[w].size(); ++i)
          pairs[{symbols[w][i], symbols[w][i + 1]}] += words[w].second;
      std::pair<std::int32_t, std::int32_t> best;
      std::int64_t most = 1;
      for (const auto& [pair, count] : pairs)
        if (count > most) {
          most = count;
          best = pair;
        }
      if (most < 2) break;
      const std::string bytes =
          tokens[static_cast<std::size_t>(best.first)] + tokens[static_cast<std::size_t>(best.second)];
      if (ids.emplace(bytes, static_cast<std::int32_t>(tokens.size())).second) tokens.push_back(bytes);
      merges.push_back({best.first, best.second, ids.at(bytes)});
      for (auto& s : symbols)
        for (std::size_t i = 0; i + 1 < s.size(); ++i)
          if (s[i] == best.first && s[i + 1] == best.second) {
            s[i] = ids.at(bytes);
            s.erase(s.begin() + static_cast<std::ptrdiff_t>(i) + 1);
          }
    }
    std::vector<std::array<std::int32_t, 3>> ours;
    for (const Merge& m : fast.merges) ours.push_back({m.left, m.right, m.result});
    EXPECT_EQ(ours, merges) << round;
    EXPECT_EQ(fast.tokens, tokens) << round;
  }
}

TEST(Learn, CountsDoNotDependOnHowTextsAreShared) {
  const std::string text = test::golden("train.txt");
  const PreTokenizer steps = pre_tokenizer_of(find_word_pattern("cl100k", "pattern"));
  WordCounter whole(steps), first(steps), second(steps);
  std::size_t at = 0;
  for (int line = 0; at < text.size(); ++line) {
    const std::size_t end = text.find('\n', at) + 1;
    whole.add(std::string_view(text).substr(at, end - at));
    (line % 3 ? first : second).add(std::string_view(text).substr(at, end - at));
    at = end;
  }
  first.add(second);
  EXPECT_EQ(first.sorted(), whole.sorted());
}

TEST(Learn, WritesATokenizerThatReadsBack) {
  const std::string text = test::golden("train.txt");
  for (const WordPattern& pattern : word_patterns()) {
    const LearntVocabulary vocabulary = learnt(text, pattern.name, 500);
    const BpeTokenizer tokenizer(read_tokenizer_json(to_tokenizer_json(vocabulary, pattern.name), pattern.name), "",
                                 "key");
    EXPECT_EQ(tokenizer.vocab_size(), 500);
    const std::vector<std::int32_t> ids = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_LT(ids.size() * 2, text.size()) << "nothing was learnt";
  }
}

}  // namespace
}  // namespace fourmi
