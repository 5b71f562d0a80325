// Many texts from one model: a thread goes from step to step, and each step takes the next token of every text that is
// being written and as much of the waiting prompts as there is room for. A text that comes later joins in the next
// step; its tokens are those that it would have alone.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "framework/model/decode.h"
#include "framework/serve/writing.h"

namespace fourmi {

class Batcher final : public Writer {
 public:
  struct Vocabulary {
    std::int64_t size = 0;             ///< ids of `size` and above are never written
    std::vector<std::int32_t> ends{};  ///< each ends a text, and does not belong to it
  };
  /// The decoder has room for all its texts' next tokens and logits in one step. Both outlive this.
  Batcher(Decoder& decoder, const Stream& stream, const Vocabulary& vocabulary, std::int64_t max_waiting);
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;
  /// Ends all texts.
  ~Batcher() override;

  /// Null where `max_waiting` texts wait already, or after an end.
  std::shared_ptr<Writing> write(TextRequest request) override;
  std::int64_t max_tokens() const override { return decoder_.sizes().max_tokens; }

  struct Load {
    std::int64_t waiting = 0, writing = 0;
  };
  Load load() const;
  /// What the writing thread died of; empty: it lives.
  std::string failure() const;

 private:
  struct Text {
    std::shared_ptr<Writing> writing;  ///< null: the place is free
    std::vector<std::int32_t> tokens;  ///< prompt and what was written
    std::int64_t read = 0;             ///< of these, how many the decoder has taken
    std::int64_t written = 0;
    bool reading_prompt() const { return written == 0; }
  };

  void run();
  bool wait_for_work();
  void admit();
  void plan();
  void take(const DecoderRun& run, std::span<const double> logits);
  void score(const Text& text, std::int64_t first_row, std::span<const double> logits);
  void write_next(Text& text, std::span<const double> logits);
  void leave(Text& text, Finish finish);
  void end_all(Finish finish);

  Decoder& decoder_;
  const Stream& stream_;
  const Vocabulary vocabulary_;
  const std::int64_t max_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Writing>> waiting_;
  bool ends_ = false;
  std::string failure_;
  std::atomic<std::int64_t> num_writing_ = 0;
  std::vector<Text> texts_;       // of the thread, as all below
  std::vector<DecoderRun> runs_;  // of the step
  std::thread thread_;
};

}  // namespace fourmi
