// bench_linear: GFLOP/s of the linear maps on one thread (or as many as given), by instruction set. Not a test.
// exact16: a weight gradient as mode layout forms it, partials of 16 rows added in fx128. leaves8: forward with 8
// leaves.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "kernels/ops/linear.h"

namespace fourmi {
namespace {

struct Case {
  const char* name;
  std::int64_t rows, in, out, experts;
};

constexpr Case cases[] = {
    {"256x16x16", 256, 16, 16, 0},        {"256x48x128", 256, 48, 128, 0},         {"256x128x48", 256, 128, 48, 0},
    {"256x64x64", 256, 64, 64, 0},        {"256x128x128", 256, 128, 128, 0},       {"256x192x96", 256, 192, 96, 0},
    {"256x256x320", 256, 256, 320, 0},    {"256x384x128", 256, 384, 128, 0},       {"512x128x384", 512, 128, 384, 0},
    {"512x512x512", 512, 512, 512, 0},    {"1024x1024x1024", 1024, 1024, 1024, 0}, {"8 x 64x128x64", 512, 128, 64, 8},
    {"8 x 64x128x192", 512, 128, 192, 8},
};

double gflops(double flop, const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  body();
  double best = 1e9;
  const auto stop = Clock::now() + std::chrono::milliseconds(60);
  while (Clock::now() < stop) {
    const auto start = Clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return flop / best * 1e-9;
}

void measure(const Stream& stream, DType dtype, const Case& c) {
  const std::int64_t groups = c.experts ? c.experts : 1;
  std::vector<float> x(static_cast<std::size_t>(c.rows * c.in), 0.7F),
      y(static_cast<std::size_t>(c.rows * c.out), 0.7F), w(static_cast<std::size_t>(groups * c.in * c.out), 0.7F),
      dw(w.size());
  const Tensor x_MK{x.data(), dtype, {c.rows, c.in}}, y_MN{y.data(), dtype, {c.rows, c.out}};
  const double flop = 2.0 * static_cast<double>(c.rows * c.in * c.out);
  double forward, input, weight, exact = 0, leaves;
  std::vector<int128> fixed(w.size());
  if (c.experts == 0) {
    const Tensor w_NK{w.data(), dtype, {c.out, c.in}}, dw_NK{dw.data(), DType::f32, {c.out, c.in}};
    forward = gflops(flop, [&] { linear_forward(stream, x_MK, w_NK, y_MN); });
    leaves = gflops(flop, [&] { linear_forward(stream, x_MK, w_NK, y_MN, {}, 8); });
    input = gflops(flop, [&] { linear_backward_input(stream, y_MN, w_NK, x_MK); });
    weight = gflops(flop, [&] { linear_backward_weight(stream, y_MN, x_MK, dw_NK); });
    const Tensor fixed_NK{fixed.data(), DType::fx128, {c.out, c.in}};
    exact = gflops(flop, [&] { linear_backward_weight(stream, y_MN, x_MK, fixed_NK, {.rows = 16}); });
  } else {
    const Tensor w_ENK{w.data(), dtype, {groups, c.out, c.in}}, dw_ENK{dw.data(), DType::f32, {groups, c.out, c.in}};
    std::vector<std::int32_t> offsets;
    for (std::int64_t e = 0; e <= groups; ++e) offsets.push_back(static_cast<std::int32_t>(c.rows * e / groups));
    forward = gflops(flop, [&] { grouped_linear_forward(stream, x_MK, w_ENK, offsets, y_MN); });
    leaves = gflops(flop, [&] { grouped_linear_forward(stream, x_MK, w_ENK, offsets, y_MN, 8); });
    input = gflops(flop, [&] { grouped_linear_backward_input(stream, y_MN, w_ENK, offsets, x_MK); });
    weight = gflops(flop, [&] { grouped_linear_backward_weight(stream, y_MN, x_MK, offsets, dw_ENK); });
  }
  std::printf("%-9s %-5s %-16s %8.0f %8.0f %8.0f %8.0f %8.0f\n", name_of(stream.isa()).data(), name_of(dtype).data(),
              c.name, forward, input, weight, exact, leaves);
}

}  // namespace
}  // namespace fourmi

int main(int argc, char** argv) {
  using namespace fourmi;
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 1);
  std::printf("GFLOP/s, %d thread(s)\n%-9s %-5s %-16s %8s %8s %8s %8s %8s\n", pool.num_threads(), "isa", "dtype",
              "MxKxN", "forward", "dx", "dw", "exact16", "leaves8");
  for (const Isa isa : {Isa::avx512, Isa::avx2})
    for (const DType dtype : {DType::bf16, DType::f32})
      if (has_isa(isa))
        for (const Case& c : cases) measure(Stream(pool, isa), dtype, c);
}
