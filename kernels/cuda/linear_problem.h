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

  /// Rows that belong to a group.
  std::int64_t num_used_rows() const { return grouped ? offsets.back() - offsets.front() : num_rows; }
  /// S of both operands (kernels/ops/column_scaled.h): 0 where they have no scales, or not alike.
  std::int64_t num_places() const {
    if (!first_scales_GK || !second_scales_GK || first_scales_GK.dim(0) != second_scales_GK.dim(0)) return 0;
    return first_scales_GK.dim(0) * (input == Input::mxe4m3 ? ScaledFormat::mx_block : ScaledFormat::block);
  }
  Descriptor descriptor() const {
    const auto aligned = [](const Tensor& t) { return reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0; };
    const bool addresses_aligned = aligned(first) && aligned(second) && aligned(out) && aligned(residual) &&
                                   aligned(first_scales_GK) && aligned(second_scales_GK);
    const std::int64_t element = input == Input::f64 ? 8 : input == Input::f32 ? 4 : input == Input::bf16 ? 2 : 1;
    return {.map = map,
            .input = input,
            .out = out.dtype,
            .num_rows = num_rows,
            .num_in = num_in,
            .num_out = num_out,
            .num_used_rows = num_used_rows(),
            .num_places = num_places(),
            .num_groups = num_groups,
            .grouped = grouped,
            .has_residual = static_cast<bool>(residual),
            .aligned = addresses_aligned && num_in * element % 16 == 0 && num_out * element % 16 == 0,
            .addresses_aligned = addresses_aligned};
  }
};

/// f64, f32.
void run_fma(const CudaStream&, const Problem&);
/// These and bf16.
void run_plain(const CudaStream&, const Problem&);
void run_plain_scaled(const CudaStream&, const Problem&);
void run_hopper_product(const CudaStream&, const Problem&);
void run_hopper_gradient(const CudaStream&, const Problem&);
void run_hopper_bf16_product(const CudaStream&, const Problem&);
void run_hopper_bf16_gradient(const CudaStream&, const Problem&);

}  // namespace fourmi::cuda::linear
