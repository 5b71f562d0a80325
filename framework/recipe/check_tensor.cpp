#include "framework/recipe/check_tensor.h"

#include <algorithm>

#include "framework/recipe/cut_units.h"
#include "kernels/runtime/error.h"
#include "parallel/share.h"

namespace fourmi::recipe {

namespace {

struct CutDim {
  const char* key;
  std::int64_t size, units;
  const char* unit;
};

}  // namespace

void tensor_issues(const Recipe& r, const std::function<void(const std::string&, std::string, std::string)>& refuse) {
  const std::int64_t tensor = r.parallel.tensor, T = r.data.sequence_length;
  if (tensor == 1) return;
  const ModelSection& m = r.model;
  const bool layout = r.run.reproducibility == Reproducibility::layout, fp8 = is_fp8(r.precision.compute);
  const char* const blocks = scale_block(r.precision.compute) == 32 ? "blocks of 32 columns" : "blocks of 128 columns";
  const auto fits = [&](std::int64_t units) { return units > 0 && num_leaves(units) % tensor == 0; };
  const auto columns = [&](const char* key, std::int64_t size) -> CutDim {
    // Mode layout cuts every layout's sums alike, by blocks of 16.
    const std::int64_t units = column_units(size, r.run.reproducibility, r.precision.compute);
    return {key, size, std::max<std::int64_t>(1, units), fp8 ? blocks : layout ? "blocks of 16 columns" : "columns"};
  };
  const bool latent = m.kv_lora_rank > 0;
  const std::int64_t heads = std::max<std::int64_t>(1, head_units(m, r.precision.compute));
  std::vector<CutDim> dims{
      latent ? CutDim{"num_attention_heads", m.num_attention_heads, heads, fp8 ? blocks : "heads"}
             : CutDim{"num_key_value_heads", m.num_key_value_heads, heads, fp8 ? blocks : "key and value heads"}};
  if (m.n_routed_experts == 0 || m.first_k_dense_replace > 0)
    dims.push_back(columns("intermediate_size", m.intermediate_size));
  if (m.n_shared_experts > 0)
    dims.push_back(columns("moe_intermediate_size", m.n_shared_experts * m.moe_intermediate_size));
  for (const CutDim& d : dims) {
    if (fits(d.units)) continue;
    const std::int64_t most = d.units > 0 ? num_leaves(d.units) : 1;
    return refuse("parallel.tensor", fmt::format("found {} as `tensor`", tensor),
                  fmt::format("expected 1{} ({} is {}: {} {})",
                              most == 8   ? ", 2, 4 or 8"
                              : most == 4 ? ", 2 or 4"
                              : most == 2 ? " or 2"
                                          : "",
                              d.key, d.size, d.units, d.unit));
  }
  if (T % 16 != 0)
    refuse("data.sequence_length", fmt::format("found {} with {} tensor ranks", T, tensor),
           "expected a multiple of 16: ranks share the rows of a sequence in blocks of a sixteenth");
}

}  // namespace fourmi::recipe
