// A teacher that was asked before: what it says of a step's rows comes from a cache on the disk (framework/capture),
// and the student's head learns from it, chunk by chunk of rows. Every rank with a part of the student's head reads the
// rows of its micro-batches, whole: nothing is exchanged but what the columns' sums need.
//   Letters as in head.h: C rows of a chunk   K tokens kept of a row
#pragma once

#include <memory>
#include <optional>

#include "framework/capture/cache.h"
#include "framework/model/sequence_part.h"
#include "framework/train/coordinates.h"
#include "framework/train/teacher/guidance.h"
#include "framework/train/teacher/head_sums.h"
#include "kernels/ops/sparse_divergence.h"

namespace fourmi {

class CachedTeacher final : public Guidance {
 public:
  /// `student`: a recipe whose distill.mode is offline. `rank` of so many as the mesh has. Memory from `arena`.
  CachedTeacher(const Recipe& student, const StageMap& stages, const Mesh& mesh, int rank, Arena& arena);

  /// Before the first prepare(), on every rank. `wanted`: of this recipe; refuse_other was asked.
  void open(std::shared_ptr<const CacheReader> cache, const CaptureHeader& wanted);

  void prepare(const Loader& loader, const StepPlan& plan, double share, const Stream& stream) override;
  void forget() override { prepared_.clear(); }
  const Objective* objective() const override { return has_head_ ? &objective_ : nullptr; }
  const Tensor* divergence_M() const override { return has_head_ ? &divergence_M_ : nullptr; }

 private:
  void take(const Loader& loader, const Sample& sample, std::int64_t row);
  void unpack(std::int64_t row, const SparseRows& rows) const;
  void learn(const Context& c, const HeadChunk& chunk) const;

  Recipe recipe_;
  bool has_head_;
  CacheFormat format_;  // of the cache, once it is open
  SparseRows::Kind kind_;
  double share_ = 1;
  Member data_;
  SequencePart part_;
  std::int64_t rows_of_batch_ = 0, rows_of_sample_ = 0;

  std::shared_ptr<const CacheReader> cache_;
  std::vector<std::size_t> sources_;      // the cache's, by the recipe's
  std::vector<std::uint32_t> of_window_;  // [rows of a window, K]
  std::vector<float> rest_of_window_;
  std::vector<Sample> prepared_;

  Tensor entries_nK_, rest_n_;  // of this rank's rows of a step
  Tensor ids_CK_, probabilities_CK_, rest_C_;
  Tensor unknown_C_, student_sum_C_, loss_C_;
  HeadSums sums_;
  Tensor divergence_M_;
  Objective objective_;
};

}  // namespace fourmi
