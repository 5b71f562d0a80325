// Encoders that threads take and give back, so that their caches stay warm.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

/// Lives no longer than its tokenizer.
class EncoderShelf {
 public:
  explicit EncoderShelf(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::unique_ptr<Encoder> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<Encoder> encoder = std::move(free_.back());
        free_.pop_back();
        return encoder;
      }
    }
    return tokenizer_.make_encoder();
  }
  void give(std::unique_ptr<Encoder> encoder) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(encoder));
  }

 private:
  const Tokenizer& tokenizer_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Encoder>> free_;
};

}  // namespace fourmi
