#include "framework/model/leaves.h"

#include "framework/model/family.h"
#include "parallel/share.h"

namespace fourmi {

namespace {

std::int64_t of_columns(std::int64_t columns, std::int64_t tensor) {
  return columns % 16 == 0 && columns > 0 ? num_leaves(columns / 16) / tensor : 1;
}

}  // namespace

Leaves layout_leaves(const ModelSection& m, std::int64_t tensor, std::int64_t expert, std::int64_t expert_tensor) {
  const std::int64_t heads = has_latent_attention(m) ? m.num_attention_heads : m.num_key_value_heads;
  return {.heads = num_leaves(heads) / tensor,
          .intermediate = of_columns(m.intermediate_size, tensor),
          .shared_intermediate = of_columns(m.n_shared_experts * m.moe_intermediate_size, tensor),
          .vocabulary = vocabulary_leaves / tensor,
          .experts = m.n_routed_experts > 0 ? num_leaves(m.n_routed_experts) / expert : 1,
          .expert_intermediate = of_columns(m.moe_intermediate_size, expert_tensor),
          .apart = true};
}

}  // namespace fourmi
