#include "framework/tokenizer/word_counts.h"

#include <algorithm>

#include "framework/tokenizer/utf8.h"

namespace fourmi {

void WordCounter::add(std::string_view text) {
  while (!text.empty()) {
    const std::size_t valid = utf8::valid_prefix(text);
    cutter_.cut(text.substr(0, valid), [&](std::string_view word) {
      const auto found = counts_.find(word);
      if (found != counts_.end())
        ++found->second;
      else
        counts_.emplace(word, 1);
    });
    text.remove_prefix(valid);
    text.remove_prefix(utf8::invalid_prefix(text));
  }
}

void WordCounter::add(const WordCounter& other) {
  for (const auto& [word, count] : other.counts_) counts_[word] += count;
}

std::vector<std::pair<std::string, std::int64_t>> WordCounter::sorted() const {
  std::vector<std::pair<std::string, std::int64_t>> words(counts_.begin(), counts_.end());
  std::sort(words.begin(), words.end());
  return words;
}

}  // namespace fourmi
