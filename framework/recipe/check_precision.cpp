#include "framework/recipe/check_precision.h"

#include <fmt/format.h>

#include "framework/recipe/cut_units.h"

namespace fourmi::recipe {

void precision_issues(const Recipe& r,
                      const std::function<void(const std::string&, std::string, std::string)>& refuse) {
  if (!is_fp8(r.precision.compute)) return;
  const ModelSection& m = r.model;
  const auto whole = [&](const char* key, std::int64_t size, const std::string& what) {
    if (size <= 0 || size % scale_block == 0) return;
    const std::int64_t next = (size / scale_block + 1) * scale_block;
    refuse(
        std::string("model.") + key, fmt::format("found {} ({} columns)", what, size),
        fmt::format("expected a multiple of {0} columns, which share a scale in `precision.compute`; the next is {1}",
                    scale_block, next));
  };
  const auto plain = [&](const char* key, std::int64_t size) { whole(key, size, std::to_string(size)); };
  plain("hidden_size", m.hidden_size);
  if (m.n_routed_experts == 0 || m.first_k_dense_replace > 0) plain("intermediate_size", m.intermediate_size);
  if (m.n_routed_experts > 0) plain("moe_intermediate_size", m.moe_intermediate_size);
  if (m.kv_lora_rank > 0) {
    plain("q_lora_rank", m.q_lora_rank);
    return;
  }
  whole("num_attention_heads", m.num_attention_heads * m.head_dim,
        fmt::format("{} heads of {}", m.num_attention_heads, m.head_dim));
  whole("num_key_value_heads", m.num_key_value_heads * m.head_dim,
        fmt::format("{} heads of {}", m.num_key_value_heads, m.head_dim));
}

}  // namespace fourmi::recipe
