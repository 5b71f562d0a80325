// What a source is to loader and validation: numbered windows of sequence_length rows.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "framework/data/batch.h"
#include "framework/data/token_source.h"
#include "framework/data/windows.h"

namespace fourmi {

class WindowSource {
 public:
  virtual ~WindowSource() = default;
  virtual std::int64_t num_windows() const = 0;
  /// The number of the window's first row among the tokens of all documents, in their order; the rows that are no
  /// padding are that token and those that follow it.
  virtual std::int64_t first_token(std::int64_t window) const = 0;
  /// Of one window: rows that are no padding, and those of them that have a target (of multi-token prediction).
  virtual std::int64_t num_inputs(std::int64_t window) const = 0;
  virtual std::int64_t num_targets(std::int64_t window) const = 0;
  virtual std::int64_t num_mtp_targets(std::int64_t window) const = 0;
  /// num_inputs of all windows.
  virtual std::int64_t all_inputs() const {
    std::int64_t sum = 0;
    for (std::int64_t w = 0; w < num_windows(); ++w) sum += num_inputs(w);
    return sum;
  }
  /// Writes a window into sequence `sequence` of a batch that empty_batch made.
  virtual void write(std::int64_t window, std::int64_t sequence, Batch& batch) const = 0;
};

/// A line of tokens, each of which is learned (windows.h).
class StreamWindows final : public WindowSource {
 public:
  StreamWindows(std::unique_ptr<TokenSource> tokens, const WindowShape& shape)
      : tokens_(std::move(tokens)), shape_(shape) {}
  std::int64_t num_windows() const override { return fourmi::num_windows(*tokens_, shape_); }
  std::int64_t first_token(std::int64_t window) const override { return fourmi::first_token(*tokens_, shape_, window); }
  std::int64_t num_inputs(std::int64_t window) const override { return fourmi::num_targets(*tokens_, shape_, window); }
  std::int64_t num_targets(std::int64_t window) const override { return num_inputs(window); }
  std::int64_t num_mtp_targets(std::int64_t window) const override {
    return fourmi::num_mtp_targets(*tokens_, shape_, window);
  }
  std::int64_t all_inputs() const override {
    return shape_.packing ? tokens_->num_tokens() : WindowSource::all_inputs();
  }
  void write(std::int64_t window, std::int64_t sequence, Batch& batch) const override {
    write_window(*tokens_, shape_, window, sequence, batch);
  }

 private:
  std::unique_ptr<TokenSource> tokens_;
  WindowShape shape_;
};

}  // namespace fourmi
