#include "framework/corpus/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include "framework/corpus/corpus_reader.h"
#include "framework/data/input_file.h"
#include "framework/data/text.h"
#include "framework/tokenizer/patterns.h"
#include "framework/tokenizer/word_counts.h"
#include "framework/tokenizer/write_json.h"
#include "kernels/runtime/error.h"
#include "kernels/runtime/thread_pool.h"

namespace fourmi {
namespace {

class Counting {
 public:
  Counting(const TrainTokenizerOptions& options, const PreTokenizer& steps)
      : options_(options), steps_(steps), pool_(options.threads) {}

  void read_all() {
    std::int64_t all = 0;
    for (const auto& input : options_.inputs) all += InputFile(input).size();
    CorpusReader reader(options_.inputs, options_.format, options_.block_bytes, {});
    reader.for_batches(2 * options_.block_bytes * pool_.num_threads(), [&](CorpusBatch& batch) {
      pool_.parallel_for(std::ssize(batch.pieces), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) add(batch.pieces[static_cast<std::size_t>(i)]);
      });
      if (options_.progress) options_.progress(batch.bytes_read, all);
    });
  }

  std::vector<std::pair<std::string, std::int64_t>> words() {
    for (std::size_t i = 1; i < free_.size(); ++i) {
      free_[0]->add(*free_[i]);
      free_[i].reset();
    }
    return free_.empty() ? std::vector<std::pair<std::string, std::int64_t>>{} : free_[0]->sorted();
  }
  std::int64_t text_bytes() const { return text_bytes_; }

 private:
  void add(CorpusPiece& piece) {
    const std::filesystem::path& input = options_.inputs[piece.input];
    Text text;
    if (corpus_format(input, options_.format) == "jsonl") {
      append_json_lines(std::move(piece.block.bytes), options_.field, input.string(), text, piece.block.lines_before);
    } else {
      text.bytes = std::move(piece.block.bytes);
      text.file_ends = {std::ssize(text.bytes)};
    }
    std::unique_ptr<WordCounter> counter;
    {
      const std::lock_guard lock(mutex_);
      text_bytes_ += std::ssize(text.bytes);
      if (!free_.empty()) {
        counter = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (!counter) counter = std::make_unique<WordCounter>(steps_);
    std::int64_t begin = 0;
    for (const std::int64_t end : text.file_ends) {
      counter->add(
          std::string_view(text.bytes).substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
      begin = end;
    }
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(counter));
  }

  const TrainTokenizerOptions& options_;
  const PreTokenizer& steps_;
  ThreadPool pool_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<WordCounter>> free_;
  std::int64_t text_bytes_ = 0;
};

}  // namespace

TrainedTokenizer train_tokenizer(const TrainTokenizerOptions& options) {
  const auto least = static_cast<std::int64_t>(256 + options.learn.special_tokens.size());
  if (options.learn.vocab_size < least)
    throw Error(ExitStatus::usage, "--vocab-size",
                fmt::format("found {}, expected at least {}: 256 bytes and {} special tokens", options.learn.vocab_size,
                            least, options.learn.special_tokens.size()));
  const PreTokenizer steps = pre_tokenizer_of(find_word_pattern(options.pattern, "--pattern"));
  Counting counting(options, steps);
  counting.read_all();
  const auto words = counting.words();
  if (words.empty())
    throw Error(ExitStatus::input, options.inputs.front().string(), "no word at all, text to learn from was expected");
  const LearntVocabulary vocabulary = learn_vocabulary(words, options.learn);
  return {.json = to_tokenizer_json(vocabulary, options.pattern),
          .vocab_size = std::ssize(vocabulary.tokens),
          .merges = std::ssize(vocabulary.merges),
          .words = std::ssize(words),
          .text_bytes = counting.text_bytes()};
}

}  // namespace fourmi
