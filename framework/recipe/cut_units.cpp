#include "framework/recipe/cut_units.h"

#include <algorithm>
#include <initializer_list>
#include <numeric>

namespace fourmi {

std::int64_t head_units(const ModelSection& m, Compute compute) {
  const bool latent = m.kv_lora_rank > 0;
  const std::int64_t heads = latent ? m.num_attention_heads : m.num_key_value_heads;
  if (!is_fp8(compute)) return heads;
  const std::int64_t queries = m.num_attention_heads / std::max<std::int64_t>(1, heads) * m.head_dim;
  std::int64_t together = 1;
  const std::int64_t block = scale_block(compute);
  const auto fit = [&](std::initializer_list<std::int64_t> columns_of_a_head) {
    for (std::int64_t columns : columns_of_a_head) together = std::lcm(together, block / std::gcd(block, columns));
  };
  if (latent)
    fit({m.qk_nope_head_dim + m.qk_rope_head_dim, m.qk_nope_head_dim + m.v_head_dim, m.v_head_dim});
  else
    fit({queries, m.head_dim});
  return heads % together == 0 ? heads / together : 0;
}

std::int64_t column_units(std::int64_t columns, Reproducibility mode, Compute compute) {
  const std::int64_t block = is_fp8(compute) ? scale_block(compute) : mode == Reproducibility::layout ? 16 : 1;
  return columns % block == 0 ? columns / block : 0;
}

}  // namespace fourmi
