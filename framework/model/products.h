// What a linear map's products read (docs/precision.md): in a precision of eight bits rows with scales, quantised once
// where they come to be, and for the weight's gradient the same rows with their scales down the columns.
#pragma once

#include <span>

#include "framework/model/context.h"
#include "kernels/ops/column_scaled.h"
#include "kernels/ops/rms_norm.h"

namespace fourmi {

/// A product's rows of an activation, or of a gradient: x itself, or where `scaled` is there x quantised into it. `w`
/// in all of these: the matrix whose products read them, one of several (Context::after_operand).
Tensor activation_operand(const Context&, const Tensor& x_MK, const Tensor& scaled_MK, const Slot& w);
Tensor gradient_operand(const Context&, const Tensor& dy_MN, const Tensor& scaled_MN, const Slot& w);

/// What products read comes from others in their dtype at once: the operations of the same names (kernels/ops), which
/// also quantise where the result has scales; by way of LateMemory where these are known late.
void norm_operand(const Context&, const RmsNorm&, const Tensor& x_MA, const Slot& weight, const Tensor& y_MD,
                  const Tensor& rstd_M, const Slot& w);
void swiglu_operand(const Context&, const Tensor& gate_up_R2F, const Tensor& h_RF, std::int64_t rows, const Slot& w);
void swiglu_gradient_operand(const Context&, const Tensor& dh_RF, const Tensor& gate_up_R2F, const Tensor& dgate_up_R2F,
                             std::int64_t rows, const Slot& w);
void combine_gradient_operand(const Context&, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                              const Tensor& row_of_MK, const Tensor& drows_RD, const Tensor& dweights_MK,
                              std::int64_t rows, const Slot& w);

/// What backward reads and no product does: x quantised into `kept`, where that is there.
void keep_scaled(const Context&, const Tensor& x_MK, const Tensor& kept_MK);
/// SwiGLU's input as backward reads it: gate_up itself, or where it was kept with scales that in gate_up's memory.
/// (Forward's output is of the unrounded input; DeepSeek-V3 report 3.3.3.)
void restore_gate_up(const Context&, const Tensor& kept_R2F, const Tensor& gate_up_R2F, std::int64_t rows);
/// The same for its output: h itself, or made again of what was kept.
void restore_swiglu(const Context&, const Tensor& kept_R2F, const Tensor& gate_up_R2F, const Tensor& h_RF,
                    std::int64_t rows, const Slot& w);

/// dx_MK = residual_MK + dy_MN w_NK; leaves cut N.
void input_gradient(const Context&, const Tensor& dy_MN, const Slot& w, const Tensor& dx_MK,
                    const Tensor& residual_MK = {}, std::int64_t leaves = 1);
/// Of experts, w [E, N, K].
void grouped_input_gradient(const Context&, const Tensor& dy_RN, const Slot& w, std::span<const std::int32_t> offsets,
                            const Tensor& dx_RK, std::int64_t leaves = 1);

/// dw_NK += dy_MN^T x_MK
void weight_gradient(const Context&, const Tensor& dy_MN, const Tensor& x_MK, const Slot& w);
/// Of experts; row_token as in Cuts, null where nothing is cut.
void grouped_weight_gradient(const Context&, const Tensor& dy_RN, const Tensor& x_RK,
                             std::span<const std::int32_t> offsets, const Slot& w, const std::int32_t* row_token);

/// Where operands lie in the activations' dtype whose scales are known when all of them is there (ModelTypes). One of
/// it serves all layers of a rank in turn.
class LateMemory {
 public:
  LateMemory(std::int64_t largest_elements, DType dtype, Arena& arena);
  Tensor of(const Shape& shape) const { return elements_.rows(0, shape.num_elements()).view(shape); }
  const Tensor& amax_1() const { return amax_1_; }

 private:
  Tensor elements_, amax_1_;
};

/// Memory for the two operands of one weight's gradient, whose scales go down the columns. One of it serves all layers
/// of a rank in turn.
class ColumnMemory {
 public:
  /// Rows, columns of both operands together, and runs of rows (quantize.h) of the largest gradient.
  struct Largest {
    std::int64_t group_rows = ScaledFormat::block, host_bytes = 0, device_bytes = 0, scales = 0;
    void add(std::int64_t rows, std::int64_t columns, std::int64_t runs);
  };
  ColumnMemory(const Largest& largest, Arena& arena);

  /// Both operands with such columns; of `rows` rows in so many runs where nothing is cut.
  struct Pair {
    ColumnScaled dy, x;
  };
  Pair pair(std::int64_t rows, std::int64_t runs, std::int64_t dy_columns, std::int64_t x_columns) const;

 private:
  std::int64_t group_rows_;
  Tensor elements_, scales_;
};

}  // namespace fourmi
