// `fourmi teacher capture`: a teacher's distributions at the positions that a recipe's run reads, into a cache
// (framework/capture/cache.h). The teacher lies on the ranks in a layout of its own; each rank takes the tokens of an
// equal part of the sequences, and rank 0 writes them.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "framework/capture/cache.h"
#include "framework/recipe/recipe.h"
#include "framework/train/teacher/teacher_forward.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"

namespace fourmi {

struct CaptureProgress {
  std::int64_t rows = 0, all_rows = 0;      ///< of this call
  double seconds = 0, forward_seconds = 0;  ///< on this rank; of them the teacher's layers
};

struct CaptureOptions {
  /// In place of opening distill.teacher.from; for tests.
  std::function<TeacherFact(TeacherForward&)> load = nullptr;
  /// Of samples; run.seed where there is none.
  std::optional<std::uint64_t> seed = {};
  /// A part of the cache: what a kill loses at most.
  std::int64_t rows_of_part = std::int64_t{1} << 18;
  /// Asked on rank 0 between parts.
  std::function<bool()> stop = [] { return false; };
  /// On rank 0.
  std::function<void(const std::string&)> say = [](const std::string&) {};
  std::function<void(const CaptureProgress&)> progress = [](const CaptureProgress&) {};
};

struct CaptureSummary {
  CaptureProgress made;
  bool complete = true;   ///< false: stopped; the same call goes on
  std::int64_t rows = 0;  ///< of the whole cache
  std::int64_t bytes = 0;
  std::string root;  ///< empty where it is not complete
};

/// Collective among all ranks, with the same recipe, whose tokenizer is pinned and whose teacher is known
/// (pin_teacher). Adds what the cache lacks; what it has is held against the recipe first. Throws Error(usage) for a
/// recipe without cache or teacher, Error(input) for a cache of another kind, Error(environment) naming the bytes where
/// the disk has no room.
CaptureSummary capture(const Recipe& recipe, Group& group, const Stream& stream, const CaptureOptions& options);

/// Bytes that so many positions in so many windows take.
double predicted_cache_bytes(const CacheFormat& format, std::int64_t rows, std::int64_t windows);

}  // namespace fourmi
