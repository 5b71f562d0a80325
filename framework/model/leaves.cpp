#include "framework/model/leaves.h"

#include "framework/model/family.h"
#include "framework/recipe/cut_units.h"
#include "parallel/share.h"

namespace fourmi {

Leaves layout_leaves(const ModelSection& m, Compute compute, std::int64_t tensor, std::int64_t expert,
                     std::int64_t expert_tensor) {
  const auto of_units = [](std::int64_t units, std::int64_t ranks) {
    return units > 0 ? num_leaves(units) / ranks : 1;
  };
  const auto of_columns = [&](std::int64_t columns, std::int64_t ranks) {
    return of_units(column_units(columns, Reproducibility::layout, compute), ranks);
  };
  return {.heads = of_units(head_units(m, compute), tensor),
          .intermediate = of_columns(m.intermediate_size, tensor),
          .shared_intermediate = of_columns(m.n_shared_experts * m.moe_intermediate_size, tensor),
          .vocabulary = vocabulary_leaves / tensor,
          .experts = m.n_routed_experts > 0 ? num_leaves(m.n_routed_experts) / expert : 1,
          .expert_intermediate = of_columns(m.moe_intermediate_size, expert_tensor),
          .apart = true};
}

}  // namespace fourmi
