// The training stream: a pure function of (seed, position). It knows no rank: which samples are in a step, and in which
// order, does not depend on how many ranks share them.
//
// Each source's tokens are windows (windows.h); every epoch visits them all once, in an order of its own
// (permutation.h). Sources are mixed by weight, in tokens: each token read gives every source its share as credit, and
// the source with the most credit gives the next sample and pays its tokens. So after n tokens a source of share w has
// given w*n of them, to within a few sequences.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/data/batch.h"
#include "framework/data/position.h"
#include "framework/data/rewritten.h"
#include "framework/data/sources.h"
#include "framework/data/token_source.h"
#include "framework/data/window_source.h"
#include "framework/data/windows.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

struct Sample {
  std::int32_t source = 0;  ///< index into data.train; -1: padding, where the run's last step has no more samples
  std::int64_t epoch = 0, window = 0;
  bool operator==(const Sample&) const = default;
};

/// One optimizer step: its samples in order, the counts over the whole global batch, and the position after it.
struct StepPlan {
  std::vector<Sample> samples;
  std::int64_t num_inputs = 0;              ///< input positions without padding
  std::int64_t num_targets = 0;             ///< unmasked targets: as many, but for sources that learn a part only
  std::int64_t num_mtp_targets = 0;         ///< unmasked targets of multi-token prediction
  std::vector<std::int64_t> source_inputs;  ///< num_inputs, by source
  Position next;
  /// Texts that stand in place of some samples' (framework/train/on_policy); null: all are the data's. num_targets
  /// counts theirs too, num_rewritten those alone; inputs and positions are counted as the data has them.
  const Rewritten* rewritten = nullptr;
  std::int64_t num_rewritten = 0;
};

class Loader {
 public:
  /// `vocab_size` is the model's: synthetic sources draw from all of it.
  Loader(const DataSection& data, const std::vector<LoadedSource>& train, std::uint64_t seed, std::int64_t vocab_size,
         ThreadPool* pool = nullptr);

  /// Where a new run begins.
  Position start() const;
  /// Checks a checkpoint's position against this loader's sources. Throws Error(input) if a source's text has changed,
  /// or if the sources are others; with `accept_changes` both are taken: known sources go on, new ones begin, mixing
  /// begins anew.
  Position resume(const Position& position, bool accept_changes) const;

  /// The samples after `position`: as many as data.global_batch_size says there. With `epochs`, the run ends where
  /// every source has been read so many times: from there on the step is filled up with padding. Fills the caller's
  /// plan, whose memory it keeps: from the second step on it allocates nothing. Throws Error(input) if data.repeat
  /// leaves nothing.
  void plan_step(const Position& position, StepPlan& step, std::optional<double> epochs = {}) const;
  StepPlan plan_step(const Position& position) const;
  void plan(const Position& position, std::int64_t num_samples, StepPlan& step,
            std::optional<double> epochs = {}) const;
  StepPlan plan(const Position& position, std::int64_t num_samples) const;
  /// Has every source been read so many times?
  bool finished(const Position& position, double epochs) const;

  /// Micro-batch `micro_batch` (of `num_sequences` sequences) of data rank `rank` of `num_ranks`: rank r owns the r-th
  /// of num_ranks equal, contiguous parts of the step's samples. The first forms fill the caller's batch, whose memory
  /// they keep.
  void micro_batch(const StepPlan& step, std::int64_t rank, std::int64_t num_ranks, std::int64_t micro_batch,
                   std::int64_t num_sequences, Batch& batch) const;
  void batch(const StepPlan& step, std::int64_t first_sample, std::int64_t num_sequences, Batch& batch) const;
  Batch micro_batch(const StepPlan& step, std::int64_t rank, std::int64_t num_ranks, std::int64_t micro_batch,
                    std::int64_t num_sequences) const;
  Batch batch(const StepPlan& step, std::int64_t first_sample, std::int64_t num_sequences) const;

  const WindowShape& shape() const { return shape_; }
  /// Is a part of it learned, as of a conversation what the assistant writes? Not of padding.
  bool learns_a_part(const Sample& sample) const {
    return sources_.at(static_cast<std::size_t>(sample.source)).learns_a_part;
  }
  std::int64_t num_sources() const { return static_cast<std::int64_t>(sources_.size()); }
  std::int64_t tokens_per_epoch(std::int64_t source) const;   ///< input tokens
  std::int64_t samples_per_epoch(std::int64_t source) const;  ///< windows
  double share(std::int64_t source) const;                    ///< of the tokens
  std::int64_t num_inputs(const Sample& sample) const;        ///< tokens of a sample, without padding
  std::int64_t first_token(const Sample& sample) const;       ///< WindowSource::first_token; of padding -1
  /// Mean input tokens of a sample at the recipe's weights: sequence_length without the padding.
  double tokens_per_sample() const;
  /// Input tokens after which every source has been seen once, at the recipe's weights.
  double tokens_per_epoch() const;
  /// Throws Error(input) with the arithmetic if `tokens` more take any source beyond data.repeat.
  void check_repeat(const Position& position, double tokens) const;
  /// Worth saying before the first step: how long texts took to encode, documents that are left out or cut off.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Supply {
    std::string name;
    std::unique_ptr<WindowSource> windows;
    bool learns_a_part = false;
    std::int64_t num_bytes = 0;
    std::uint32_t checksum = 0;
    std::int64_t num_windows = 0, num_tokens = 0, share = 0;  ///< windows and their input tokens; share of 2^32
  };
  Supply make_supply(const DataSection& data, const LoadedSource& source, const Tokenizer& tokenizer,
                     std::uint64_t seed, std::int64_t vocab_size, ThreadPool* pool);
  /// Without packing: what becomes of documents that are longer than a sequence.
  void fit_documents(const DataSection& data, const std::string& place, std::vector<TextPiece>& documents);
  bool exhausted(const SourcePosition& source) const { return repeat_ && source.epoch >= *repeat_; }
  /// Which source gives the next sample.
  std::size_t choose(const Position& position) const;
  void pay(Position& position, std::size_t chosen, std::int64_t tokens) const;

  WindowShape shape_;
  std::uint64_t seed_;
  BatchSize global_batch_size_;
  std::optional<std::int64_t> repeat_;
  std::int64_t total_share_ = 0;
  std::vector<Supply> sources_;
  std::vector<std::string> notes_;
};

}  // namespace fourmi
