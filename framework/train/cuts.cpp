#include "framework/train/cuts.h"

#include <numeric>

#include "framework/model/leaves.h"

namespace fourmi {

Context cuts_of(const Recipe& r, std::int32_t* refused) {
  const std::int64_t T = r.data.sequence_length;
  Context c;
  c.attention_block = T <= 64 ? T : std::gcd<std::int64_t, std::int64_t>(T, 64);
  if (r.run.reproducibility == Reproducibility::layout) {
    c.attention_block = T / 16;
    c.weight_cuts = {.rows = T / 16, .row_token = nullptr, .refused = refused};
    c.token_cuts = {.rows = 1, .row_token = nullptr, .refused = refused};
    c.query_leaves = 16 / r.parallel.context;
    if (model_types(r.precision, r.run.reproducibility).gradient == DType::fx128)
      c.leaves =
          layout_leaves(r.model, r.precision.compute, r.parallel.tensor, r.parallel.expert, r.parallel.expert_tensor);
  }
  return c;
}

}  // namespace fourmi
