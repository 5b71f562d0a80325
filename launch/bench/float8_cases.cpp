// Products of e4m3 elements with what they need of quantising, each beside the same product in bf16.
#include "kernels/ops/linear.h"
#include "kernels/ops/quantize.h"
#include "kernels/ops/transpose_panels.h"
#include "kernels/runtime/cuda_peers.h"
#include "launch/bench/kernel_cases.h"

namespace fourmi::bench {

/// Quantising that belongs to a product: of x to y, of dy to dx, and to dw both operands' columns from their rows.
void KernelCases::add_float8(const CaseSizes::Float8& size) {
  const auto [M, in, out, E] = size;
  const Tensor x = tensor({M, in}, DType::bf16), w = tensor({E, out, in}, DType::bf16, 0.02),
               y = tensor({M, out}, DType::bf16), dx = tensor({M, in}, DType::bf16),
               dw = tensor({E, out, in}, DType::f32);
  const auto allocate = [&](const Shape& shape, DType dtype) { return arena_.allocate(shape, dtype, "operands"); };
  const Tensor x8 = allocate({M, in}, DType::e4m3_rows), w8 = allocate({E, out, in}, DType::e4m3_panels),
               dy8 = allocate({M, out}, DType::e4m3_rows);
  const auto columns = [&](std::int64_t width) {
    const std::int64_t groups = ColumnScaled::most_groups(M, E, 128);
    const Tensor elements = allocate({ColumnScaled::element_bytes(arena_.device(), M, width, groups, 128)}, DType::u8);
    return ColumnScaled{Tensor(elements.data, DType::u8, {M, width}, elements.device),
                        allocate({groups, width}, DType::f32)};
  };
  const ColumnScaled x_columns = columns(in), dy_columns = columns(out);
  const Scaling activations{ScaleKind::power_of_two, 1e-4F}, others{ScaleKind::power_of_two};
  if (!arena_.measuring()) {
    quantize(stream_, x, x8, activations);
    quantize(stream_, w, w8, others);
    quantize(stream_, y, dy8, others);
  }

  std::vector<std::int32_t>& offsets = offsets_.emplace_back();
  for (std::int64_t e = 0; e <= E; ++e) offsets.push_back(static_cast<std::int32_t>(M * e / E));
  const std::vector<std::int32_t>* o = &offsets;
  const double flops = 2.0 * static_cast<double>(M * in * out);
  const std::string shape =
      E == 1 ? fmt::format("{} x {} x {}", M, in, out) : fmt::format("{} rows, {} x {}, {} experts", M, in, out, E);
  const auto add = [&](const char* name, const auto& run, const auto& beside) {
    cases_.push_back({name, shape, flops, 0, true, run, beside});
  };
  add(
      "quantize, fp8 forward",
      [=](const Stream& s) {
        quantize(s, x, x8, activations);
        grouped_linear_forward(s, x8, w8, *o, y);
      },
      [=](const Stream& s) { grouped_linear_forward(s, x, w, *o, y); });
  add(
      "quantize, fp8 backward_input",
      [=](const Stream& s) {
        quantize(s, y, dy8, others);
        grouped_linear_backward_input(s, dy8, w8, *o, dx);
      },
      [=](const Stream& s) { grouped_linear_backward_input(s, y, w, *o, dx); });
  add(
      "regroup, fp8 backward_weight",
      [=](const Stream& s) {
        regroup_columns(s, x8, x_columns, ColumnScale::power_of_two, *o);
        regroup_columns(s, dy8, dy_columns, ColumnScale::power_of_two, *o);
        grouped_linear_backward_weight(s, dy_columns, x_columns, *o, dw);
      },
      [=](const Stream& s) { grouped_linear_backward_weight(s, y, x, *o, dw); });
  if (!sizes_.float8_alone) return;
  // As layers have it on a GPU (framework/model/scaled_copies.h).
  const bool on_gpu = arena_.device() != Device::cpu;
  const Tensor transposed = on_gpu ? allocate({E, in, out}, DType::e4m3_panels) : Tensor();
  const std::int64_t scratch_bytes = on_gpu && E == 1 ? fp8_peer_bytes(M, out, in) : 0;
  const Tensor scratch = scratch_bytes > 0 ? allocate({scratch_bytes}, DType::u8) : Tensor();
  if (!arena_.measuring()) {
    if (transposed) transpose_panels(stream_, w8, transposed);
    regroup_columns(stream_, x8, x_columns, ColumnScale::power_of_two, *o);
    regroup_columns(stream_, dy8, dy_columns, ColumnScale::power_of_two, *o);
  }
  const auto alone = [&](const char* name, const auto& run) -> KernelCase& {
    return cases_.emplace_back(KernelCase{name, shape, flops, 0, true, run});
  };
  KernelCase& forward = alone("fp8 forward", [=](const Stream& s) { grouped_linear_forward(s, x8, w8, *o, y); });
  if (scratch && !arena_.measuring())
    forward.peer = fp8_forward_peer(*stream_.device(), x8, w8.view({out, in}), y, scratch);
  if (transposed)
    alone("fp8 backward_input", [=](const Stream& s) { grouped_linear_forward(s, dy8, transposed, *o, dx); });
  else
    alone("fp8 backward_input", [=](const Stream& s) { grouped_linear_backward_input(s, dy8, w8, *o, dx); });
  KernelCase& weight = alone("fp8 backward_weight", [=](const Stream& s) {
    grouped_linear_backward_weight(s, dy_columns, x_columns, *o, dw);
  });
  if (scratch && !arena_.measuring())
    weight.peer = fp8_gradient_peer(*stream_.device(), dy_columns, x_columns, dw.view({out, in}));
}

}  // namespace fourmi::bench
