// How often each word occurs in a text: all that training a vocabulary needs to know of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "framework/tokenizer/pre_tokenizer.h"

namespace fourmi {

/// One thread's counts. Memory grows with the number of different words.
class WordCounter {
 public:
  explicit WordCounter(const PreTokenizer& pre_tokenizer) : cutter_(pre_tokenizer) {}
  /// Bytes that are no UTF-8 are left out: a vocabulary has every byte anyway.
  void add(std::string_view text);
  void add(const WordCounter& other);
  /// In the order of the words' bytes, so that nothing depends on how texts were shared among threads.
  std::vector<std::pair<std::string, std::int64_t>> sorted() const;

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  WordCutter cutter_;
  std::unordered_map<std::string, std::int64_t, Hash, std::equal_to<>> counts_;
};

}  // namespace fourmi
