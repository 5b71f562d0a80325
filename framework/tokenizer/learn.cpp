#include "framework/tokenizer/learn.h"

#include <algorithm>
#include <numeric>
#include <queue>
#include <unordered_map>

#include "framework/tokenizer/byte_level.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

using Pair = std::uint64_t;  ///< left id << 32 | right id: smaller ids compare as smaller
Pair pair_of(std::int32_t left, std::int32_t right) {
  return Pair{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

struct Hash {
  std::size_t operator()(Pair pair) const { return static_cast<std::size_t>((pair * 0x9e3779b97f4a7c15u) >> 17); }
};

struct Candidate {
  std::int64_t count;
  Pair pair;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Learner {
 public:
  Learner(const std::vector<std::pair<std::string, std::int64_t>>& words, const LearnOptions& options)
      : options_(options) {
    begin_vocabulary();
    for (const auto& [word, count] : words) add_word(word, count);
    for (const auto& [pair, occurrence] : pairs_) queue_.push({occurrence.count, pair});
  }

  LearntVocabulary run() {
    while (std::ssize(result_.tokens) < options_.vocab_size && !queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      const auto found = pairs_.find(best.pair);
      if (found == pairs_.end() || best.count < std::max<std::int64_t>(1, options_.min_frequency)) continue;
      if (found->second.count != best.count) {  // it has lost some since it was queued
        if (found->second.count > 0) queue_.push({found->second.count, best.pair});
        continue;
      }
      learn(best.pair);
    }
    return std::move(result_);
  }

 private:
  struct Word {
    std::size_t begin = 0, length = 0;  ///< in symbols_
    std::int64_t count = 0;
  };
  struct Occurrence {
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  ///< that may hold it
  };

  void begin_vocabulary() {
    result_.special_tokens = result_.tokens = options_.special_tokens;
    std::array<std::size_t, 256> order;
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto& characters = byte_level::characters();
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return characters[a] < characters[b]; });
    for (const std::size_t byte : order) {
      bytes_[byte] = static_cast<std::int32_t>(result_.tokens.size());
      result_.tokens.emplace_back(1, static_cast<char>(byte));
    }
    for (std::size_t id = result_.special_tokens.size(); id < result_.tokens.size(); ++id)
      ids_.emplace(result_.tokens[id], static_cast<std::int32_t>(id));
  }

  void add_word(const std::string& word, std::int64_t count) {
    if (word.size() < 2) return;
    const auto index = static_cast<std::uint32_t>(words_.size());
    words_.push_back({symbols_.size(), word.size(), count});
    for (const char c : word) symbols_.push_back(bytes_[static_cast<unsigned char>(c)]);
    const std::int32_t* symbols = &symbols_[words_.back().begin];
    for (std::size_t i = 0; i + 1 < word.size(); ++i) gain(pair_of(symbols[i], symbols[i + 1]), index, nullptr);
  }

  void gain(Pair pair, std::uint32_t word, std::vector<Pair>* news) {
    Occurrence& o = pairs_[pair];
    o.count += words_[word].count;
    if (!o.words.empty() && o.words.back() == word) return;
    o.words.push_back(word);
    if (news != nullptr) news->push_back(pair);
  }
  void lose(Pair pair, std::uint32_t word) { pairs_[pair].count -= words_[word].count; }

  void learn(Pair pair) {
    const auto left = static_cast<std::int32_t>(pair >> 32), right = static_cast<std::int32_t>(pair & 0xffffffffu);
    std::string bytes =
        result_.tokens[static_cast<std::size_t>(left)] + result_.tokens[static_cast<std::size_t>(right)];
    const auto [known, is_new] = ids_.emplace(bytes, static_cast<std::int32_t>(result_.tokens.size()));
    if (is_new) result_.tokens.push_back(std::move(bytes));
    result_.merges.push_back({left, right, known->second});

    std::vector<std::uint32_t> words = std::move(pairs_[pair].words);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    news_.clear();
    for (const std::uint32_t word : words) join(word, left, right, known->second);
    pairs_.erase(pair);
    std::sort(news_.begin(), news_.end());
    news_.erase(std::unique(news_.begin(), news_.end()), news_.end());
    for (const Pair p : news_)
      if (const auto found = pairs_.find(p); found != pairs_.end() && found->second.count > 0)
        queue_.push({found->second.count, p});
  }

  /// Joins the pair wherever it stands in a word, from the left, and tells its neighbours' pairs.
  void join(std::uint32_t index, std::int32_t left, std::int32_t right, std::int32_t result) {
    Word& word = words_[index];
    std::int32_t* symbols = &symbols_[word.begin];
    std::size_t out = 0;
    for (std::size_t in = 0; in < word.length; ++out) {
      if (in + 1 < word.length && symbols[in] == left && symbols[in + 1] == right) {
        if (out > 0) {
          lose(pair_of(symbols[out - 1], left), index);
          gain(pair_of(symbols[out - 1], result), index, &news_);
        }
        if (in + 2 < word.length) {
          lose(pair_of(right, symbols[in + 2]), index);
          gain(pair_of(result, symbols[in + 2]), index, &news_);
        }
        symbols[out] = result;
        in += 2;
      } else {
        symbols[out] = symbols[in++];
      }
    }
    word.length = out;
  }

  const LearnOptions& options_;
  LearntVocabulary result_;
  std::array<std::int32_t, 256> bytes_{};
  std::unordered_map<std::string, std::int32_t> ids_;
  std::vector<Word> words_;
  std::vector<std::int32_t> symbols_;
  std::unordered_map<Pair, Occurrence, Hash> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> news_;  ///< pairs that a merge has made
};

}  // namespace

LearntVocabulary learn_vocabulary(const std::vector<std::pair<std::string, std::int64_t>>& words,
                                  const LearnOptions& options) {
  return Learner(words, options).run();
}

}  // namespace fourmi
