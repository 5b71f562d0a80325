#include "launch/bench/kernel_cases.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/numerics/random.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/copy.h"
#include "kernels/ops/cross_entropy.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/swiglu.h"
#include "kernels/runtime/on_host.h"

namespace fourmi::bench {

namespace {
constexpr DType bf16 = DType::bf16, f32 = DType::f32;

double bytes_of(std::initializer_list<Tensor> tensors) {
  double sum = 0;
  for (const Tensor& t : tensors) sum += static_cast<double>(t.bytes());
  return sum;
}
}  // namespace

CaseSizes CaseSizes::of_a_cpu() {
  return {.sequences = 4,
          .length = 512,
          .hidden = 512,
          .expert_columns = 384,
          .experts = 16,
          .choices = 4,
          .heads = 8,
          .q_size = 96,
          .v_size = 64,
          .head_rows = 256,
          .vocab = 320,
          .optimizer_elements = std::int64_t{16} << 20,
          .products = {{512, 768}, {384, 512}, {512, 352}},
          .float8 = {{1024, 1024, 1024, 1}, {2048, 2048, 2048, 1}, {2048, 1024, 512, 8}, {2048, 512, 1024, 8}}};
}

CaseSizes CaseSizes::of_a_gpu() {
  return {.sequences = 8,
          .length = 4096,
          .hidden = 2048,
          .expert_columns = 1408,
          .experts = 64,
          .choices = 6,
          .heads = 16,
          .q_size = 192,
          .v_size = 128,
          .head_rows = 2048,
          .vocab = 163840,
          .optimizer_elements = std::int64_t{256} << 20,
          .products = {{2048, 2816}, {8192, 8192}},
          .float8 = {{4096, 16384, 7168, 1}, {4096, 7168, 4096, 1}, {32768, 7168, 4096, 32}, {32768, 2048, 7168, 32}},
          .float8_alone = true};
}

CaseSizes CaseSizes::tiny() {
  return {.sequences = 2,
          .length = 16,
          .hidden = 64,
          .expert_columns = 32,
          .experts = 4,
          .choices = 2,
          .heads = 2,
          .q_size = 24,
          .v_size = 16,
          .head_rows = 8,
          .vocab = 64,
          .optimizer_elements = 4096,
          .products = {{64, 64}},
          .float8 = {{128, 128, 128, 1}, {256, 128, 256, 2}},
          .float8_alone = true};
}

CaseSizes CaseSizes::product_alone(std::int64_t M, std::int64_t N, std::int64_t K) {
  CaseSizes sizes{};
  sizes.sequences = 1, sizes.length = M, sizes.products = {{K, N}}, sizes.operations = false;
  return sizes;
}

/// First without memory, to know how much it takes.
KernelCases::KernelCases(const CaseSizes& sizes, const Stream& stream)
    : KernelCases(sizes, stream, Arena::Mode::allocate,
                  KernelCases(sizes, stream, Arena::Mode::measure, 0).arena_.used()) {}

KernelCases::KernelCases(const CaseSizes& sizes, const Stream& stream, Arena::Mode mode, std::int64_t bytes)
    : sizes_(sizes),
      stream_(stream),
      arena_({.name = "bench", .mode = mode, .device = stream.device() ? &stream.device()->runtime() : nullptr},
             bytes) {
  add_linear();
  if (sizes_.operations) add_grouped(0), add_grouped(1);
  for (const CaseSizes::Float8& size : sizes_.float8) add_float8(size);
  if (!sizes_.operations) return;
  add_attention();
  add_rows();
  add_permutation();
  add_head();
  add_optimizer();
}

/// Random numbers that repeat: the time of an operation does not depend on how far apart equal values are.
void KernelCases::fill(const Tensor& t, double stddev) {
  if (arena_.measuring()) return;
  const Tensor flat = t.view({t.num_elements()});
  std::int64_t filled = std::min<std::int64_t>(t.num_elements(), 1 << 14);
  const OnHost first(stream_, flat.rows(0, filled), OnHost::Use::fill);
  fill_normal(first.tensor(), random_key(1, "bench", fmt::format("{}", seed_++)), 0, stddev);
  first.back();
  for (; filled < t.num_elements(); filled *= 2) {
    const std::int64_t more = std::min(filled, t.num_elements() - filled);
    copy(stream_, flat.rows(0, more), flat.rows(filled, filled + more));
  }
}

Tensor KernelCases::tensor(Shape shape, DType dtype, double stddev) {
  const Tensor t = arena_.allocate(shape, dtype, "operands");
  fill(t, stddev);
  return t;
}

Tensor KernelCases::indices(Shape shape, const std::function<std::int64_t(std::int64_t)>& value) {
  const Tensor t = arena_.allocate(shape, DType::i32, "operands");
  if (arena_.measuring()) return t;
  const OnHost host(stream_, t, OnHost::Use::fill);
  for (std::int64_t i = 0; i < t.num_elements(); ++i)
    host.tensor().as<std::int32_t>()[i] = static_cast<std::int32_t>(value(i));
  host.back();
  return t;
}

void KernelCases::add_linear() {
  const std::int64_t M = sizes_.sequences * sizes_.length;
  for (const auto& [in, out] : sizes_.products) {
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
  const std::int64_t D = sizes_.hidden, F = sizes_.expert_columns, E = sizes_.experts,
                     R = sizes_.sequences * sizes_.length * sizes_.choices;
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
  // A library has no groups: a call an expert.
  const auto each = [=](const auto& call) {
    return [=](const Stream& s) {
      for (std::int64_t e = 0; e < E; ++e) {
        const auto rows = [&](const Tensor& t) {
          return t.rows((*o)[static_cast<std::size_t>(e)], (*o)[static_cast<std::size_t>(e) + 1]);
        };
        const auto matrix = [&](const Tensor& t) { return t.view({E * 2 * F, D}).rows(e * 2 * F, (e + 1) * 2 * F); };
        call(s, rows, matrix);
      }
    };
  };
  const auto add = [&](const char* name, const auto& run, const auto& call) {
    cases_.push_back({name, shape, flops, 0, true, run, {}, each(call)});
  };
  add(
      "grouped_linear_forward", [=](const Stream& s) { grouped_linear_forward(s, x, w, *o, y); },
      [=](const Stream& s, auto& rows, auto& matrix) { linear_forward(s, rows(x), matrix(w), rows(y)); });
  add(
      "grouped_linear_backward_input", [=](const Stream& s) { grouped_linear_backward_input(s, y, w, *o, x); },
      [=](const Stream& s, auto& rows, auto& matrix) { linear_backward_input(s, rows(y), matrix(w), rows(x)); });
  add(
      "grouped_linear_backward_weight", [=](const Stream& s) { grouped_linear_backward_weight(s, y, x, *o, dw); },
      [=](const Stream& s, auto& rows, auto& matrix) { linear_backward_weight(s, rows(y), rows(x), matrix(dw)); });
}

void KernelCases::add_attention() {
  const std::int64_t S = sizes_.sequences, T = sizes_.length, M = S * T, H = sizes_.heads, Q = sizes_.q_size,
                     V = sizes_.v_size;
  const Tensor q = tensor({M, H, Q}, bf16), k = tensor({M, H, Q}, bf16), v = tensor({M, H, V}, bf16),
               o = tensor({M, H, V}, bf16);
  const Tensor d = tensor({M, H, V}, bf16), dq = tensor({M, H, Q}, bf16), dk = tensor({M, H, Q}, bf16),
               dv = tensor({M, H, V}, bf16);
  const Tensor lse = tensor({M, H}, f32), begin = indices({M}, [T](std::int64_t i) { return i / T * T; }),
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
  const std::int64_t M = sizes_.sequences * sizes_.length, D = sizes_.hidden, F = sizes_.expert_columns,
                     R = M * sizes_.choices;
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
  const std::int64_t M = sizes_.sequences * sizes_.length, D = sizes_.hidden, K = sizes_.choices, R = M * K;
  const Tensor x = tensor({M, D}, bf16), y = tensor({M, D}, bf16), rows = tensor({R, D}, bf16),
               drows = tensor({R, D}, bf16);
  const Tensor weights = tensor({M, K}, f32), dweights = tensor({M, K}, f32);
  // Each token's choices lie in K distant places, as in experts' order.
  const Tensor row_of = indices({M, K}, [M, K](std::int64_t i) { return i % K * M + i / K; }),
               row_token = indices({R}, [M](std::int64_t r) { return r % M; });
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
  const std::int64_t N = sizes_.head_rows, vocab = sizes_.vocab;
  const Tensor logits = tensor({N, vocab}, f32), dlogits = tensor({N, vocab}, bf16), max = tensor({N}, f32),
               sum = tensor({N}, f32), target = tensor({N}, f32), loss = tensor({N}, f32);
  const Tensor targets = indices({N}, [vocab](std::int64_t i) { return i % vocab; });
  cases_.push_back(
      {"cross_entropy", fmt::format("{} x {}", N, vocab), 0, bytes_of({logits, dlogits}), true, [=](const Stream& s) {
         softmax_max(s, logits, max);
         softmax_sum(s, logits, max, targets, 0, sum, target);
         cross_entropy_finish(s, 1.0, logits, max, sum, target, targets, 0, loss, dlogits);
       }});
}

void KernelCases::add_optimizer() {
  const std::int64_t n = sizes_.optimizer_elements;
  const Tensor g = tensor({n}, f32, 1e-3), w = tensor({n}, f32, 0.02), m = tensor({n}, f32, 1e-3),
               v = arena_.allocate({n}, f32, "operands"), out = arena_.allocate({n}, bf16, "operands");
  if (!arena_.measuring()) fill_zero(stream_, v);
  const std::string shape = fmt::format("{:.4g} Mi elements", static_cast<double>(n) / (1 << 20));
  cases_.push_back({"adamw_step", shape, 0, bytes_of({g, w, w, m, m, v, v, out}), true,
                    [=](const Stream& s) { adamw_step(s, {.learning_rate = 1e-6}, g, w, m, v, out); }});
  cases_.push_back(
      {"sum_squares", shape, 0, bytes_of({g}), true, [=](const Stream& s) { (void)sum_squares(s, g, 3); }});
  cases_.push_back({"fill_zero", shape, 0, bytes_of({g}), true, [=](const Stream& s) { fill_zero(s, g); }});
}

}  // namespace fourmi::bench
