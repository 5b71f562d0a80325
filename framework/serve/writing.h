// One text that is being written: what was asked, and its tokens as they come. Whoever asked takes them in a thread of
// its own. And who writes it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "framework/model/sampling.h"

namespace fourmi {

struct TextRequest {
  std::vector<std::int32_t> prompt;  ///< a token at least
  std::size_t num_hidden = 0;        ///< of its first tokens, which whoever asked did not give
  std::int64_t max_tokens = 16;
  Sampling sampling{};
  int num_likeliest = -1;  ///< log probabilities of so many of the likeliest tokens; -1: of none, not even the chosen
  bool score_prompt = false;  ///< the prompt's tokens come first, with theirs
};

struct LikelyToken {
  std::int32_t token = 0;
  double logprob = 0;
};

struct WrittenToken {
  std::int32_t token = 0;
  /// Natural logarithm of its probability; not a number where none is known (the first token of a prompt) or asked for.
  double logprob = std::numeric_limits<double>::quiet_NaN();
  std::vector<LikelyToken> likeliest{};  ///< descending
};

enum class Finish : std::uint8_t {
  not_yet,
  stop,       ///< the model ended its text
  length,     ///< as many tokens as were asked for, or as the model has positions for
  cancelled,  ///< by whoever asked, or because all writing ends
  failed
};

class Writing {
 public:
  explicit Writing(TextRequest request) : request_(std::move(request)) {}
  const TextRequest& request() const { return request_; }

  /// Waits for the next token; false when there is none any more.
  bool next(WrittenToken& token) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !tokens_.empty() || finish_ != Finish::not_yet; });
    if (tokens_.empty()) return false;
    token = std::move(tokens_.front());
    tokens_.pop_front();
    return true;
  }
  Finish finish() const {
    const std::lock_guard lock(mutex_);
    return finish_;
  }
  /// No more tokens are wanted.
  void cancel() { end(Finish::cancelled); }

  // The writer's side.
  void push(WrittenToken token) {
    {
      const std::lock_guard lock(mutex_);
      if (finish_ != Finish::not_yet) return;
      tokens_.push_back(std::move(token));
    }
    changed_.notify_all();
  }
  /// The first end counts.
  void end(Finish finish) {
    {
      const std::lock_guard lock(mutex_);
      if (finish_ == Finish::not_yet) finish_ = finish;
    }
    changed_.notify_all();
  }

 private:
  const TextRequest request_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<WrittenToken> tokens_;
  Finish finish_ = Finish::not_yet;
};

/// What answers need of whoever writes: any thread may ask.
class Writer {
 public:
  virtual ~Writer() = default;
  /// Null where no more may wait, or after an end. Prompt and max_tokens of a request are at most max_tokens().
  virtual std::shared_ptr<Writing> write(TextRequest request) = 0;
  virtual std::int64_t max_tokens() const = 0;
};

}  // namespace fourmi
