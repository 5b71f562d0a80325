// A linear map whose arguments the door has checked (linear.cu), for the families of kernels. For .cu files.
#pragma once

#include <span>

#include "kernels/cuda/linear_choice.h"
#include "kernels/cuda/stream.h"

namespace fourmi::cuda::linear {

struct Problem {
  const char* name = "";
  Map map = Map::forward;
  Input input = Input::bf16;
  Tensor first, second;                      ///< x or dy, and w; for a gradient of weights dy and x
  Tensor first_scales_GK, second_scales_GK;  ///< of columns with scales; absent else
  Tensor out, residual;  ///< residual: added; a gradient of weights itself; absent: nothing is added
  bool grouped = false;
  std::span<const std::int32_t> offsets;  ///< of the host; empty unless grouped
  std::int64_t num_rows = 0, num_in = 0, num_out = 0, num_groups = 1;

  Descriptor descriptor() const;
  /// Rows that belong to a group.
  std::int64_t num_used_rows() const { return grouped ? offsets.back() - offsets.front() : num_rows; }
};

/// f64, f32.
void run_fma(const CudaStream&, const Problem&);
/// These and bf16.
void run_plain(const CudaStream&, const Problem&);
void run_plain_scaled(const CudaStream&, const Problem&);

}  // namespace fourmi::cuda::linear
