// The order of a step's calls, of every rank, from the recipe: what engine, optimizer, pipeline and layers call of
// which groups (parallel/order). The one list from which traffic is predicted, the order is proven before the first
// step, and calls are checked.
#pragma once

#include "framework/recipe/recipe.h"
#include "framework/train/stages.h"
#include "parallel/order/step_order.h"

namespace fourmi {

/// What a step's order depends on besides the recipe.
struct StepSizes {
  int num_micro_batches = 1;  ///< of a data rank
  bool balance_loss = false;  ///< its weight is not zero
  bool operator<(const StepSizes& o) const {
    return std::pair(num_micro_batches, balance_loss) < std::pair(o.num_micro_batches, o.balance_loss);
  }
};

/// Losses and the norm's squares that ranks add up of a step, exactly.
inline std::size_t num_step_sums(const Recipe& recipe) {
  return recipe.distill.learns_logits() ? 5 : 4;
}

class StepOrders {
 public:
  /// `recipe` outlives it.
  StepOrders(const Recipe& recipe, int num_ranks);

  /// Layers that work in bf16 from here on (Context::promoted).
  void promote(PromotedLayers layers) { promoted_.assign(layers.begin(), layers.end()); }
  const OrderGroups& groups() const { return groups_; }
  StepOrder of(int rank, const StepSizes& step) const;
  /// Of all ranks (prove_step). Throws Error(bug).
  void prove(const StepSizes& step) const;
  /// All sizes that a step of the run can have.
  std::vector<StepSizes> sizes() const;

 private:
  const Recipe& recipe_;
  StageMap stages_;
  Mesh mesh_;
  OrderGroups groups_;
  std::vector<std::uint8_t> promoted_;
};

}  // namespace fourmi
