// The maximum of what several ranks found, element by element.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// y_C = max over the P parts; f32 or f64. Exact, in any order; a NaN in any part gives NaN.
void max_of_parts(const Stream&, const Tensor& parts_PC, const Tensor& y_C);

}  // namespace fourmi
