// The training stream: a pure function of (seed, position). It knows no rank: which samples are in a step, and in which
// order, does not depend on how many ranks share them.
//
// Each source's tokens are windows (windows.h); every epoch visits them all once, in an order of its own
// (permutation.h). Sources are mixed by weight: each sample gives every source its share as credit, and the source with
// the most credit gives the sample and pays one for it. After n samples a source of share w has given w*n of them, to
// within the number of sources.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "framework/data/batch.h"
#include "framework/data/position.h"
#include "framework/data/token_source.h"
#include "framework/data/windows.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// A source of the recipe with its text in memory (no text: synthetic). Shared by Loader and Validation.
struct LoadedSource {
  DataSource recipe;
  std::shared_ptr<const Text> text;
};
/// Reads all texts. `place` is the recipe's key, e.g. "data.train". Throws Error(input) naming source and file.
std::vector<LoadedSource> load_sources(const std::vector<DataSource>& sources, const std::string& place);

struct Sample {
  std::int32_t source = 0;  ///< index into data.train
  std::int64_t epoch = 0, window = 0;
  bool operator==(const Sample&) const = default;
};

/// One optimizer step: its samples in order, the counts over the whole global batch, and the position after it.
struct StepPlan {
  std::vector<Sample> samples;
  std::int64_t num_targets = 0;      ///< unmasked targets; also the input positions without padding
  std::int64_t num_mtp_targets = 0;  ///< unmasked targets of multi-token prediction
  std::vector<std::int64_t> source_targets;  ///< num_targets, by source
  Position next;
};

class Loader {
 public:
  /// `vocab_size` is the model's: synthetic sources draw from all of it.
  Loader(const DataSection& data, const std::vector<LoadedSource>& train, std::uint64_t seed, std::int64_t vocab_size);

  /// Where a new run begins.
  Position start() const;
  /// Checks a checkpoint's position against this loader's sources. Throws Error(input) if a source's text has changed,
  /// or if the sources are others; with `accept_changes` both are taken: known sources go on, new ones begin, mixing
  /// begins anew.
  Position resume(const Position& position, bool accept_changes) const;

  /// The global_batch_size samples after `position`. The first form fills the caller's plan, whose memory it keeps: from the second
  /// step on it allocates nothing.
  void plan_step(const Position& position, StepPlan& step) const;
  StepPlan plan_step(const Position& position) const;
  void plan(const Position& position, std::int64_t num_samples, StepPlan& step) const;
  StepPlan plan(const Position& position, std::int64_t num_samples) const;

  /// Micro-batch `micro_batch` (of `num_sequences` sequences) of data rank `rank` of `num_ranks`: rank r owns the r-th
  /// of num_ranks equal, contiguous parts of the step's samples. The first forms fill the caller's batch, whose memory they keep.
  void micro_batch(const StepPlan& step, std::int64_t rank, std::int64_t num_ranks, std::int64_t micro_batch,
                   std::int64_t num_sequences, Batch& batch) const;
  void batch(const StepPlan& step, std::int64_t first_sample, std::int64_t num_sequences, Batch& batch) const;
  Batch micro_batch(const StepPlan& step, std::int64_t rank, std::int64_t num_ranks, std::int64_t micro_batch,
                    std::int64_t num_sequences) const;
  Batch batch(const StepPlan& step, std::int64_t first_sample, std::int64_t num_sequences) const;

  std::int64_t num_sources() const { return static_cast<std::int64_t>(sources_.size()); }
  std::int64_t tokens_per_epoch(std::int64_t source) const;   ///< input tokens
  std::int64_t samples_per_epoch(std::int64_t source) const;  ///< windows
  /// Samples after which every source has been seen once, at the recipe's weights: what run.epochs counts.
  std::int64_t samples_per_epoch() const;

 private:
  struct Supply {
    std::string name;
    std::unique_ptr<TokenSource> tokens;
    std::int64_t num_windows = 0, share = 0;  ///< share of 2^32
  };
  /// Which source gives the next sample; pays for it.
  std::size_t choose(Position& position) const;

  WindowShape shape_;
  std::uint64_t seed_;
  std::int64_t global_batch_size_, total_share_ = 0;
  std::vector<Supply> sources_;
};

}  // namespace fourmi
