// bench_quantize: GB/s (bytes read and written) of the ways into and out of FP8 on one thread (or as many as given),
// beside a plain copy's of the same input. Not a test.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "kernels/numerics/random.h"
#include "kernels/ops/copy.h"
#include "kernels/ops/quantize.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/swiglu.h"

namespace fourmi {
namespace {

struct Memory {
  std::vector<std::byte> bytes;
  Tensor tensor;
  Memory(DType dtype, Shape shape)
      : bytes(static_cast<std::size_t>(bytes_of(dtype, shape))), tensor(bytes.data(), dtype, shape) {}
};

void measure(const Stream& stream, const char* name, std::int64_t bytes, const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  body();
  double best = 1e9;
  const auto stop = Clock::now() + std::chrono::milliseconds(150);
  while (Clock::now() < stop) {
    const auto start = Clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::printf("%-9s %-44s %7.2f GB/s %8.3f ms\n", name_of(stream.isa()).data(), name,
              static_cast<double>(bytes) / best * 1e-9, best * 1e3);
}

void run(const Stream& stream, std::int64_t M, std::int64_t K) {
  Memory x(DType::bf16, {M, K}), f(DType::f32, {M, K}), y(DType::bf16, {M, K}), g(DType::f32, {M, K});
  Memory rows(DType::e4m3_rows, {M, K}), mx(DType::mxe4m3_rows, {M, K}), panels(DType::e4m3_panels, {M, K});
  Memory elements(DType::u8, {M, K}), scales(DType::f32, {M / 32, K}), amax(DType::f32, {1});
  fill_normal(x.tensor, random_key(1, "bench", "x"), 0, 1);
  fill_normal(f.tensor, random_key(1, "bench", "x"), 0, 1);
  const std::int32_t whole[2] = {0, static_cast<std::int32_t>(M)};
  const auto go = [&](const char* name, const Tensor& from, const Tensor& to, const std::function<void()>& body) {
    measure(stream, name, from.bytes() + to.bytes(), body);
  };
  const Scaling plain, powers{.kind = ScaleKind::power_of_two};
  std::printf("M %ld, K %ld\n", static_cast<long>(M), static_cast<long>(K));
  go("copy bf16", x.tensor, y.tensor, [&] { copy(stream, x.tensor, y.tensor); });
  go("copy f32", f.tensor, g.tensor, [&] { copy(stream, f.tensor, g.tensor); });
  go("bf16 to rows, f32 scales", x.tensor, rows.tensor, [&] { quantize(stream, x.tensor, rows.tensor, plain); });
  go("bf16 to rows, powers of two", x.tensor, rows.tensor, [&] { quantize(stream, x.tensor, rows.tensor, powers); });
  go("f32 to rows, f32 scales", f.tensor, rows.tensor, [&] { quantize(stream, f.tensor, rows.tensor, plain); });
  go("bf16 to mx rows", x.tensor, mx.tensor, [&] { quantize(stream, x.tensor, mx.tensor, plain); });
  go("bf16 to panels", x.tensor, panels.tensor, [&] { quantize(stream, x.tensor, panels.tensor, plain); });
  go("f32 to panels", f.tensor, panels.tensor, [&] { quantize(stream, f.tensor, panels.tensor, plain); });
  go("bf16 to rows, one scale", x.tensor, rows.tensor, [&] {
    largest_magnitudes(stream, x.tensor, whole, amax.tensor);
    quantize_by(stream, x.tensor, rows.tensor, plain, whole, amax.tensor);
  });
  quantize(stream, x.tensor, mx.tensor, plain);
  quantize(stream, x.tensor, rows.tensor, powers);
  go("rows to f32", rows.tensor, g.tensor, [&] { dequantize(stream, rows.tensor, g.tensor); });
  go("rows to bf16", rows.tensor, y.tensor, [&] { dequantize(stream, rows.tensor, y.tensor); });
  go("rows to columns of 128", rows.tensor, elements.tensor, [&] {
    regroup_columns(stream, rows.tensor, {elements.tensor, scales.tensor}, ColumnScale::power_of_two);
  });
  Memory weight(DType::f32, {K}), rstd(DType::f32, {M});
  fill_normal(weight.tensor, random_key(1, "bench", "w"), 0, 1);
  go("rms_norm to bf16", x.tensor, y.tensor,
     [&] { rms_norm_forward(stream, {}, x.tensor, weight.tensor, y.tensor, rstd.tensor); });
  go("rms_norm to rows", x.tensor, rows.tensor,
     [&] { rms_norm_forward(stream, {}, x.tensor, weight.tensor, {}, rows.tensor, powers, rstd.tensor); });
  const std::int64_t F = K / 2;
  Memory h(DType::bf16, {M, F}), h_rows(DType::e4m3_rows, {M, F});
  go("swiglu to bf16", x.tensor, h.tensor, [&] { swiglu_forward(stream, x.tensor, h.tensor, M); });
  go("swiglu to rows", x.tensor, h_rows.tensor, [&] { swiglu_forward(stream, x.tensor, h_rows.tensor, powers, M); });
  go("swiglu backward to bf16", x.tensor, y.tensor, [&] { swiglu_backward(stream, h.tensor, x.tensor, y.tensor, M); });
  go("swiglu backward to rows", x.tensor, rows.tensor,
     [&] { swiglu_backward(stream, h.tensor, x.tensor, rows.tensor, powers, M); });
  quantize(stream, x.tensor, rows.tensor, powers);
  go("mx rows to columns of 32", mx.tensor, elements.tensor, [&] {
    regroup_columns(stream, mx.tensor, {elements.tensor, scales.tensor, 32}, ColumnScale::power_of_two);
  });
}

}  // namespace
}  // namespace fourmi

int main(int argc, char** argv) {
  using namespace fourmi;
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 1);
  for (const Isa isa : {Isa::avx512, Isa::avx2})
    if (has_isa(isa)) {
      run(Stream(pool, isa), 4096, 2048);
      run(Stream(pool, isa), 256, 512);  // in the second-level cache
    }
}
