// The tables that encoding and reading look into, each against the plainest container that does the same.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>

#include "framework/tokenizer/merges.h"
#include "framework/tokenizer/token_index.h"
#include "framework/tokenizer/word_cache.h"

namespace fourmi {
namespace {

std::vector<std::int32_t> ids_of(const std::string& word, std::size_t salt) {
  std::vector<std::int32_t> ids(1 + (std::hash<std::string>()(word) ^ salt) % word.size());
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 1000 + salt % 7);
  ids[0] = static_cast<std::int32_t>(std::hash<std::string>()(word) & 0x7fffffff);
  return ids;
}

TEST(WordCache, TellsWordsApartThatDifferInOneByteOrInLength) {
  WordCache cache;
  std::mt19937_64 random(5);
  std::set<std::string> words;
  for (std::size_t length = 1; length <= WordCache::longest_word; ++length) {
    std::string word(length, '\0');
    words.insert(word);
    for (char& c : word) c = static_cast<char>(random());
    words.insert(word);
    for (std::size_t i = 0; i < length; ++i) {
      std::string other = word;
      other[i] = static_cast<char>(other[i] ^ 1 << random() % 8);
      words.insert(other);
    }
  }
  for (int pass = 0; pass < 2; ++pass)
    for (const std::string& word : words) {
      std::vector<std::int32_t> found{-7};
      WordCache::Place place = cache.ask(word);
      const bool there = cache.append(word, found, place);
      ASSERT_EQ(there, pass == 1) << word.size();
      std::vector<std::int32_t> expected = ids_of(word, 3);
      if (!there) cache.put(word, place, expected.data(), expected.size());
      expected.insert(expected.begin(), -7);
      if (there) {
        ASSERT_EQ(found, expected) << word.size();
      }
    }
}

TEST(WordCache, ForgetsEverythingWhenItIsFull) {
  WordCache cache;
  std::size_t forgotten = 0;
  for (int i = 0; i < 200000; ++i) {
    const std::string word = std::to_string(i * 7919 % 100003) + (i % 3 ? "" : std::string(20, 'x'));
    std::vector<std::int32_t> found;
    WordCache::Place place = cache.ask(word);
    const std::vector<std::int32_t> expected = ids_of(word, 0);
    if (cache.append(word, found, place)) {
      ASSERT_EQ(found, expected);
    } else {
      ++forgotten;
      cache.put(word, place, expected.data(), expected.size());
    }
  }
  EXPECT_GT(forgotten, 100003u);
}

TEST(MergeTable, IsAMapOfPairs) {
  std::mt19937_64 random(9);
  std::vector<std::size_t> counts{0, 1, 7, 9, 300, 5000};
  counts.insert(counts.end(), 200, 8);  // of 16 slots, so that some are found beyond the last slot, at the first
  for (const std::size_t count : counts) {
    std::array<std::int32_t, 256> bytes;
    for (std::size_t b = 0; b < 256; ++b) bytes[b] = static_cast<std::int32_t>(b / 2);  // two bytes are one token
    const std::int32_t most = count < 1000 ? 40 : (1 << 24) - 1;
    const auto any = [&] { return static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(most)); };
    std::map<std::pair<std::int32_t, std::int32_t>, std::pair<std::uint32_t, std::int32_t>> expected;
    std::vector<Merge> merges;
    for (std::size_t rank = 0; rank < count; ++rank) {
      merges.push_back({any(), any(), any()});
      if (rank % 10 == 9) merges[rank].left = merges[rank / 2].left, merges[rank].right = merges[rank / 2].right;
      expected[{merges[rank].left, merges[rank].right}] = {static_cast<std::uint32_t>(rank), merges[rank].result};
    }
    const MergeTable table(bytes, merges);
    const auto wanted = [&](std::int32_t left, std::int32_t right) {
      const auto found = expected.find({left, right});
      return found == expected.end() ? std::pair(MergeTable::no_rank, -1) : found->second;
    };
    const auto check = [&](std::int32_t left, std::int32_t right) {
      const auto found = table.find(left, right);
      ASSERT_EQ(std::pair(found.rank, found.result), wanted(left, right)) << left << ' ' << right;
    };
    for (const Merge& m : merges) {
      check(m.left, m.right);
      check(m.right, m.left);
    }
    for (int i = 0; i < 1000; ++i) check(any(), any());
    for (int left = 0; left < 256 && count != 8; ++left)
      for (int right = 0; right < 256; ++right) {
        const auto found = table.find_bytes(static_cast<unsigned char>(left), static_cast<unsigned char>(right));
        ASSERT_EQ(std::pair(found.rank, found.result), wanted(left / 2, right / 2));
      }
  }
}

TEST(TokenIndex, IsAMapOfTexts) {
  TokenIndex none, index(1000);
  EXPECT_EQ(none.find("a"), -1);
  std::vector<std::string> texts;
  for (int i = 0; i < 1000; ++i) texts.push_back(i == 0 ? "" : std::to_string(i * i));
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(index.add(texts[static_cast<std::size_t>(i)], i));
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(index.add(texts[static_cast<std::size_t>(i)], i + 1));
    EXPECT_EQ(index.find(std::string(texts[static_cast<std::size_t>(i)])), i);
    EXPECT_EQ(index.find(std::to_string(i * i) + "x"), -1);
  }
}

}  // namespace
}  // namespace fourmi
