// bench_linear_float8 [threads]: products of e4m3 elements beside those of bf16, in turns in one run. Milliseconds are
// the least of all turns. Not a test.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "tests/kernels/float8_test_data.h"

namespace fourmi {
namespace {

using test::Columns;
using test::Float8;
using test::TypedBuffer;

struct Case {
  std::int64_t rows, in, out, experts;
};
constexpr Case cases[] = {{1024, 1024, 1024, 0}, {2048, 2048, 2048, 0}, {2048, 1024, 512, 8},
                          {2048, 512, 1024, 8},  {512, 1024, 512, 8},   {512, 128, 192, 8}};

void compare(const char* name, const Stream& stream, const Case& c, const char* format,
             const std::function<void()>& bf16, const std::function<void()>& float8) {
  using Clock = std::chrono::steady_clock;
  double best[2] = {1e9, 1e9};
  const auto stop = Clock::now() + std::chrono::milliseconds(400);
  while (Clock::now() < stop)
    for (const int i : {0, 1}) {
      const auto start = Clock::now();
      i == 0 ? bf16() : float8();
      best[i] = std::min(best[i], std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    }
  const double flop = 2.0 * static_cast<double>(c.rows * c.in * c.out);
  std::printf("%-9s %-6s %4ld x %4ld x %4ld %2ld %-8s %8.3f %8.3f %8.0f %8.0f %8.3f\n", name_of(stream.isa()).data(),
              format, c.rows, c.in, c.out, c.experts, name, best[0], best[1], flop / best[0] * 1e-6,
              flop / best[1] * 1e-6, best[0] / best[1]);
}

void measure(const Stream& stream, const Case& c, bool mx) {
  test::Random random(1);
  const std::int64_t E = std::max<std::int64_t>(c.experts, 1), group_rows = mx ? 32 : 128;
  const DType dtype = mx ? DType::mxe4m3_rows : DType::e4m3_rows;
  std::vector<std::int32_t> offsets, ends;
  for (std::int64_t e = 0; e <= E; ++e) {
    offsets.push_back(static_cast<std::int32_t>(c.rows * e / E));
    ends.push_back(static_cast<std::int32_t>(c.out * e));
  }
  TypedBuffer x({c.rows, c.in}, DType::bf16), w({E, c.out, c.in}, DType::bf16), y({c.rows, c.out}, DType::bf16),
      dw({E, c.out, c.in}, DType::f32), fixed({E, c.out, c.in}, DType::fx128);
  x.fill(random), w.fill(random), y.fill(random), dw.fill_zero(), fixed.fill_zero();
  Float8 x8(dtype, 0, c.rows, c.in), y8(dtype, 0, c.rows, c.out), w8(mx ? dtype : DType::e4m3_panels, E, c.out, c.in);
  x8.quantise(x), y8.quantise(y), w8.quantise(w);
  const auto groups = test::group_of_rows(offsets, c.rows, {}, group_rows);
  Columns xc({c.rows, c.in}, groups, group_rows), yc({c.rows, c.out}, groups, group_rows),
      wc({E, c.out, c.in}, test::group_of_rows(ends, E * c.out, {}, 32), 32);
  xc.quantise(x), yc.quantise(y), wc.quantise(w);
  const char* format = mx ? "mx" : "e4m3";
  compare(
      "forward", stream, c, format,
      [&] { grouped_linear_forward(stream, x.tensor(), w.tensor(), offsets, y.tensor()); },
      [&] { grouped_linear_forward(stream, x8.tensor(), w8.tensor(), offsets, y.tensor()); });
  compare(
      "dx", stream, c, format,
      [&] { grouped_linear_backward_input(stream, y.tensor(), w.tensor(), offsets, x.tensor()); },
      [&] {
        if (mx)
          grouped_linear_backward_input(stream, y8.tensor(), wc.scaled(), offsets, x.tensor());
        else
          grouped_linear_backward_input(stream, y8.tensor(), w8.tensor(), offsets, x.tensor());
      });
  compare(
      "dw", stream, c, format,
      [&] { grouped_linear_backward_weight(stream, y.tensor(), x.tensor(), offsets, dw.tensor()); },
      [&] { grouped_linear_backward_weight(stream, yc.scaled(), xc.scaled(), offsets, dw.tensor()); });
  compare(
      "dw exact", stream, c, format,
      [&] { grouped_linear_backward_weight(stream, y.tensor(), x.tensor(), offsets, fixed.tensor()); },
      [&] { grouped_linear_backward_weight(stream, yc.scaled(), xc.scaled(), offsets, fixed.tensor()); });
}

}  // namespace
}  // namespace fourmi

int main(int argc, char** argv) {
  using namespace fourmi;
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 1);
  std::printf("%d thread(s)\n%-9s %-6s %-21s %-8s %8s %8s %8s %8s %8s\n", pool.num_threads(), "isa", "format",
              "rows x in x out, E", "product", "bf16 ms", "fp8 ms", "GFLOP/s", "GFLOP/s", "bf16/fp8");
  for (const Isa isa : {Isa::avx512, Isa::avx2})
    for (const bool mx : {false, true})
      for (const Case& c : cases)
        if (has_isa(isa)) measure(Stream(pool, isa), c, mx);
}
