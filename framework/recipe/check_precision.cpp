#include "framework/recipe/check_precision.h"

#include <fmt/format.h>

#include "framework/recipe/cut_units.h"

namespace fourmi::recipe {

void precision_issues(const Recipe& r,
                      const std::function<void(const std::string&, std::string, std::string)>& refuse) {
  if (!is_fp8(r.precision.compute)) {
    if (r.precision.dispatch == DispatchFormat::fp8)
      refuse("precision.dispatch", "found fp8", "expected bf16: only `compute` of eight bits has scales for it");
    return;
  }
  const ModelSection& m = r.model;
  const std::int64_t block = scale_block(r.precision.compute);
  if (r.precision.compute == Compute::fp8_tensor && r.run.reproducibility == Reproducibility::layout)
    refuse(
        "precision.compute", "found `fp8-tensor` in mode `layout`",
        "expected `fp8-block` or `mxfp8`, or mode `run` (run.reproducibility): a scale of all that a rank quantises at "
        "once depends on the layout");
  if (r.precision.compute == Compute::mxfp8 && r.precision.scale_format == ScaleFormat::fp32)
    refuse("precision.scale_format", "found `fp32` with `mxfp8`, which stores exponents",
           "expected `ue8m0`, or `fp8-block` or `fp8-tensor` as `precision.compute`");
  if (r.precision.gradient_block == GradientBlock::square) {
    if (r.precision.compute != Compute::fp8_block)
      refuse("precision.gradient_block",
             fmt::format("found `128x128` with `{}`", r.precision.compute == Compute::mxfp8 ? "mxfp8" : "fp8-tensor"),
             "expected `1x128`, or `fp8-block` as `precision.compute`");
    else if (r.run.reproducibility == Reproducibility::layout)
      refuse(
          "precision.gradient_block", "found `128x128` in mode `layout`",
          "expected `1x128`, or mode `run` (run.reproducibility): which 128 rows share a scale depends on the layout");
  }
  // Combine's backward would read scales and write bf16, which is not built.
  const bool tensor = r.precision.compute == Compute::fp8_tensor,
             square = r.precision.gradient_block == GradientBlock::square;
  if ((tensor || square) && r.precision.dispatch == DispatchFormat::fp8)
    refuse("precision.dispatch", fmt::format("found fp8 with `{}`", tensor ? "fp8-tensor" : "gradient_block: 128x128"),
           "expected bf16, or gradients whose groups are of a row");
  const auto whole = [&](const char* key, std::int64_t size, const std::string& what) {
    if (size <= 0 || size % block == 0) return;
    const std::int64_t next = (size / block + 1) * block;
    refuse(
        std::string("model.") + key, fmt::format("found {} ({} columns)", what, size),
        fmt::format("expected a multiple of {0} columns, which share a scale in `precision.compute`; the next is {1}",
                    block, next));
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
