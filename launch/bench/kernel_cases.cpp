// The sizes of tests/peers/moe-512.yaml: micro-batches of 4 sequences of 512 tokens, hidden size 512, 16 experts.
#include "launch/bench/kernel_cases.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/numerics/random.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/cross_entropy.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/swiglu.h"

namespace fourmi::bench {

namespace {
constexpr std::int64_t S = 4, T = 512, M = S * T, D = 512, F = 384, E = 16, K = 4, R = M * K, H = 8, Q = 96, V = 64;
constexpr std::int64_t vocab = 320, optimizer_elements = std::int64_t{16} << 20;
constexpr DType bf16 = DType::bf16, f32 = DType::f32;

double bytes_of(std::initializer_list<Tensor> tensors) {
  double sum = 0;
  for (const Tensor& t : tensors) sum += static_cast<double>(t.bytes());
  return sum;
}
}  // namespace

KernelCases::KernelCases() : arena_({.name = "bench"}, std::int64_t{800} << 20) {
  add_linear();
  add_grouped(0);
  add_grouped(1);
  add_float8();
  add_attention();
  add_rows();
  add_permutation();
  add_head();
  add_optimizer();
}

/// Random numbers that repeat: the time of an operation does not depend on how far apart equal values are.
Tensor KernelCases::tensor(Shape shape, DType dtype, double stddev) {
  const Tensor t = arena_.allocate(shape, dtype, "operands");
  const Tensor flat = t.view({t.num_elements()});
  const std::int64_t n = std::min<std::int64_t>(t.num_elements(), 1 << 14);
  fill_normal(flat.rows(0, n), random_key(1, "bench", fmt::format("{}", seed_++)), 0, stddev);
  auto* data = static_cast<std::byte*>(t.data);
  const std::int64_t filled = n * size_of(dtype);
  for (std::int64_t at = filled; at < t.bytes(); at += filled)
    std::memcpy(data + at, data, static_cast<std::size_t>(std::min(filled, t.bytes() - at)));
  return t;
}

Tensor KernelCases::indices(Shape shape, const std::function<std::int64_t(std::int64_t)>& value) {
  const Tensor t = arena_.allocate(shape, DType::i32, "operands");
  for (std::int64_t i = 0; i < t.num_elements(); ++i) t.as<std::int32_t>()[i] = static_cast<std::int32_t>(value(i));
  return t;
}

void KernelCases::add_linear() {
  for (const auto& [in, out] : {std::pair<std::int64_t, std::int64_t>{D, 2 * F}, {F, D}, {D, 352}}) {
    const Tensor x = tensor({M, in}, bf16), w = tensor({out, in}, bf16), y = tensor({M, out}, bf16),
                 dw = tensor({out, in}, f32);
    const double flops = 2.0 * static_cast<double>(M * in * out);
    const std::string shape = fmt::format("{} x {} x {}", M, in, out);
    cases_.push_back({"linear_forward", shape, flops, 0, true, [=](const Stream& s) { linear_forward(s, x, w, y); }});
    cases_.push_back(
        {"linear_backward_input", shape, flops, 0, true, [=](const Stream& s) { linear_backward_input(s, y, w, x); }});
    cases_.push_back({"linear_backward_weight", shape, flops, 0, true,
                      [=](const Stream& s) { linear_backward_weight(s, y, x, dw); }});
  }
}

/// `skew`: expert e's share of the rows is proportional to (e + 1)^-skew, as an unforced router's at the start of a
/// run.
void KernelCases::add_grouped(double skew) {
  std::vector<std::int32_t>& offsets = offsets_.emplace_back(1, 0);
  double all = 0, sum = 0;
  for (std::int64_t e = 1; e <= E; ++e) all += std::pow(static_cast<double>(e), -skew);
  for (std::int64_t e = 1; e <= E; ++e) {
    sum += std::pow(static_cast<double>(e), -skew);
    offsets.push_back(static_cast<std::int32_t>(static_cast<double>(R) * sum / all + 0.5));
  }
  const double load = static_cast<double>(offsets[1]) * static_cast<double>(E) / static_cast<double>(R);
  const std::string shape = fmt::format("{} rows, {} x {}, load {:.1f}", R, D, 2 * F, load);
  const Tensor x = tensor({R, D}, bf16), w = tensor({E, 2 * F, D}, bf16), y = tensor({R, 2 * F}, bf16),
               dw = tensor({E, 2 * F, D}, f32);
  const double flops = 2.0 * static_cast<double>(R * D * 2 * F);
  const std::vector<std::int32_t>* o = &offsets;
  cases_.push_back({"grouped_linear_forward", shape, flops, 0, true,
                    [=](const Stream& s) { grouped_linear_forward(s, x, w, *o, y); }});
  cases_.push_back({"grouped_linear_backward_input", shape, flops, 0, true,
                    [=](const Stream& s) { grouped_linear_backward_input(s, y, w, *o, x); }});
  cases_.push_back({"grouped_linear_backward_weight", shape, flops, 0, true,
                    [=](const Stream& s) { grouped_linear_backward_weight(s, y, x, *o, dw); }});
}

void KernelCases::add_attention() {
  const Tensor q = tensor({M, H, Q}, bf16), k = tensor({M, H, Q}, bf16), v = tensor({M, H, V}, bf16),
               o = tensor({M, H, V}, bf16);
  const Tensor d = tensor({M, H, V}, bf16), dq = tensor({M, H, Q}, bf16), dk = tensor({M, H, Q}, bf16),
               dv = tensor({M, H, V}, bf16);
  const Tensor lse = tensor({M, H}, f32), begin = indices({M}, [](std::int64_t i) { return i / T * T; }),
               end = indices({M}, [](std::int64_t i) { return i + 1; });
  const Attention a{.scale = 1.0 / std::sqrt(static_cast<double>(Q))};
  const double flops = static_cast<double>(M * T * H * (Q + V));  // two operations, half of the pairs
  const std::string shape = fmt::format("{} x {}, {} heads, {} + {}", S, T, H, Q, V);
  cases_.push_back({"attention_forward", shape, flops, 0, true,
                    [=](const Stream& s) { attention_forward(s, a, q, k, v, begin, end, o, lse); }});
  cases_.push_back({"attention_backward", shape, 2 * flops, 0, true,
                    [=](const Stream& s) { attention_backward(s, a, q, k, v, begin, end, o, lse, d, dq, dk, dv); }});
}

void KernelCases::add_rows() {
  const Tensor x = tensor({M, D}, bf16), y = tensor({M, D}, bf16), dx = tensor({M, D}, bf16), w = tensor({D}, f32),
               rstd = tensor({M}, f32), dw = tensor({D}, f32);
  const RmsNorm norm;
  const std::string shape = fmt::format("{} x {}", M, D);
  cases_.push_back({"rms_norm_forward", shape, 0, bytes_of({x, y}), true,
                    [=](const Stream& s) { rms_norm_forward(s, norm, x, w, y, rstd); }});
  cases_.push_back({"rms_norm_backward_input", shape, 0, bytes_of({x, y, y, dx}), true,
                    [=](const Stream& s) { rms_norm_backward_input(s, norm, y, x, w, rstd, dx, y); }});
  cases_.push_back({"rms_norm_backward_weight", shape, 0, bytes_of({x, y}), true,
                    [=](const Stream& s) { rms_norm_backward_weight(s, norm, y, x, rstd, dw); }});
  const Tensor gate_up = tensor({R, 2 * F}, bf16), h = tensor({R, F}, bf16), dgate_up = tensor({R, 2 * F}, bf16);
  const std::string wide = fmt::format("{} x {}", R, F);
  cases_.push_back({"swiglu_forward", wide, 0, bytes_of({gate_up, h}), true,
                    [=](const Stream& s) { swiglu_forward(s, gate_up, h, R); }});
  cases_.push_back({"swiglu_backward", wide, 0, bytes_of({gate_up, h, dgate_up}), true,
                    [=](const Stream& s) { swiglu_backward(s, h, gate_up, dgate_up, R); }});
}

void KernelCases::add_permutation() {
  const Tensor x = tensor({M, D}, bf16), y = tensor({M, D}, bf16), rows = tensor({R, D}, bf16),
               drows = tensor({R, D}, bf16);
  const Tensor weights = tensor({M, K}, f32), dweights = tensor({M, K}, f32);
  // Each token's choices lie in K distant places, as in experts' order.
  const Tensor row_of = indices({M, K}, [](std::int64_t i) { return i % K * M + i / K; }),
               row_token = indices({R}, [](std::int64_t r) { return r % M; });
  const std::string shape = fmt::format("{} x {} from {}", R, D, M);
  cases_.push_back({"permute_forward", shape, 0, bytes_of({x, rows}), true,
                    [=](const Stream& s) { permute_forward(s, x, row_token, rows); }});
  cases_.push_back({"permute_backward", shape, 0, bytes_of({rows, y, x}), true,
                    [=](const Stream& s) { permute_backward(s, rows, row_of, y, x); }});
  cases_.push_back({"combine_forward", shape, 0, bytes_of({rows, y, x}), true,
                    [=](const Stream& s) { combine_forward(s, rows, weights, row_of, y, x); }});
  cases_.push_back({"combine_backward", shape, 0, bytes_of({x, rows, drows}), true,
                    [=](const Stream& s) { combine_backward(s, x, rows, weights, row_of, drows, dweights); }});
}

void KernelCases::add_head() {
  const Tensor logits = tensor({256, vocab}, f32), dlogits = tensor({256, vocab}, bf16), max = tensor({256}, f32),
               sum = tensor({256}, f32), target = tensor({256}, f32), loss = tensor({256}, f32);
  const Tensor targets = indices({256}, [](std::int64_t i) { return i % vocab; });
  cases_.push_back(
      {"cross_entropy", fmt::format("256 x {}", vocab), 0, bytes_of({logits, dlogits}), true, [=](const Stream& s) {
         softmax_max(s, logits, max);
         softmax_sum(s, logits, max, targets, 0, sum, target);
         cross_entropy_finish(s, 1.0, logits, max, sum, target, targets, 0, loss, dlogits);
       }});
}

void KernelCases::add_optimizer() {
  const Tensor g = tensor({optimizer_elements}, f32, 1e-3), w = tensor({optimizer_elements}, f32, 0.02),
               m = tensor({optimizer_elements}, f32, 1e-3), v = arena_.allocate({optimizer_elements}, f32, "operands"),
               out = arena_.allocate({optimizer_elements}, bf16, "operands");
  std::fill_n(v.as<float>(), optimizer_elements, 1e-6F);
  const std::string shape = fmt::format("{} Mi elements", optimizer_elements >> 20);
  cases_.push_back({"adamw_step", shape, 0, bytes_of({g, w, w, m, m, v, v, out}), true,
                    [=](const Stream& s) { adamw_step(s, {.learning_rate = 1e-6}, g, w, m, v, out); }});
  cases_.push_back(
      {"sum_squares", shape, 0, bytes_of({g}), true, [=](const Stream& s) { (void)sum_squares(s, g, 3); }});
  cases_.push_back({"fill_zero", shape, 0, bytes_of({g}), true, [=](const Stream& s) { fill_zero(s, g); }});
}

}  // namespace fourmi::bench
