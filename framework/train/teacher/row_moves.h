// The teacher's hidden rows go from the ranks that made them to those that have the student's head. Both layouts cut
// the same step's tokens: a pure function of the two recipes says which rows of whose micro-batches are whose, so all
// ranks know all of it and nothing is asked for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/recipe/recipe.h"
#include "framework/train/stages.h"
#include "parallel/mesh.h"

namespace fourmi {

/// Of a model's last stage: recipe, mesh and stages of the teacher, or of the student.
struct Layout {
  const Recipe& recipe;
  const Mesh& mesh;
  const StageMap& stages;
};

/// Tokens that lie one after another, both in the step (all samples one after another) and on a rank.
struct TokenRun {
  std::int64_t first = 0, count = 0;
  std::int64_t at = 0;  ///< on the rank, counted over its micro-batches
};

/// The rows that `rank` has after its model's last layer, micro-batch after micro-batch; none of a rank of another
/// stage. A rank of the tensor axis has its part of each micro-batch's rows.
std::vector<TokenRun> runs_on(const Layout& layout, int rank, std::int64_t num_samples);

class RowMoves {
 public:
  /// Of rows that follow one another.
  struct Run {
    std::int64_t row = 0, count = 0;
  };
  /// After the teacher's micro-batch of this number on every of its data ranks.
  struct Round {
    std::vector<Run> sent;               ///< rows of the micro-batch, as they lie in what is sent
    std::vector<Run> received;           ///< rows of the student's step, as they lie in what is received
    std::vector<std::int64_t> to, from;  ///< rows, by rank
    std::int64_t num_received = 0;
  };

  /// Of a step of so many samples, as `rank` sees it.
  RowMoves(const Layout& teacher, const Layout& student, int rank, std::int64_t num_samples);
  const std::vector<Round>& rounds() const { return rounds_; }
  std::int64_t most_received() const;  ///< rows of a round

 private:
  std::vector<Round> rounds_;
};

}  // namespace fourmi
