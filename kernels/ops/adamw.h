// AdamW (Loshchilov & Hutter 2019) on a shard, element by element.
//   g = grad * grad_scale;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   w -= lr * ( (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps) + decay * w )
// Dtypes   master, grad: f32 (f64 in fp64 runs); moments: as master, or bf16 (rounded to nearest when stored; used
// unrounded
//   within the step); weight: compute dtype, the rounded master.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

struct AdamW {
  double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1;
  std::int64_t step = 1;    ///< from 1; bias correction
  double grad_scale = 1.0;  ///< clip factor / token count: the one division by the step's tokens happens here
};

/// Every tensor has the same number of elements. The exact sequence of operations and roundings is in docs/numerics.md.
void adamw_step(const Stream&, const AdamW&, const Tensor& grad, const Tensor& master, const Tensor& exp_avg,
                const Tensor& exp_avg_sq, const Tensor& weight);

}  // namespace fourmi
