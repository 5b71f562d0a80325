#include "kernels/ops/swiglu.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"
#include "tests/kernels/displaced.h"

namespace fourmi {
namespace {

using namespace test;

double exact_silu(double x) {
  return x / (1 + std::exp(-x));
}

TEST(SwiGlu, ForwardFollowsTheFormula) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    const std::int64_t rows = 5, size = 37;
    const Buffer gate_up = noisy(dtype, {rows, 2 * size}, 1, 6.0), h(dtype, {rows, size});
    swiglu_forward(stream_of(pool), gate_up, h, rows);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t f = 0; f < size; ++f) {
        const double g = gate_up.get(r * 2 * size + f), u = gate_up.get(r * 2 * size + size + f);
        const double expected = exact_silu(g) * u;
        EXPECT_NEAR(h.get(r * size + f), expected, std::abs(expected) * 8 * unit_of(dtype)) << name_of(dtype);
      }
  }
}

TEST(SwiGlu, BackwardFollowsTheDerivative) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    const std::int64_t rows = 3, size = 21;
    const Buffer gate_up = noisy(dtype, {rows, 2 * size}, 2, 6.0), dh = noisy(dtype, {rows, size}, 3);
    const Buffer dgate_up(dtype, {rows, 2 * size});
    swiglu_backward(stream_of(pool), dh, gate_up, dgate_up, rows);
    const double step = 1e-5;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t f = 0; f < size; ++f) {
        const double g = gate_up.get(r * 2 * size + f), u = gate_up.get(r * 2 * size + size + f);
        const double d = dh.get(r * size + f);
        const double dg = d * u * (exact_silu(g + step) - exact_silu(g - step)) / (2 * step);
        EXPECT_NEAR(dgate_up.get(r * 2 * size + f), dg, 1e-8 + 30 * unit_of(dtype)) << name_of(dtype);
        EXPECT_NEAR(dgate_up.get(r * 2 * size + size + f), d * exact_silu(g), 1e-14 + 30 * unit_of(dtype));
      }
  }
}

TEST(SwiGlu, RowsBeyondTheCountAreNeitherReadNorWritten) {
  ThreadPool pool(2);
  for (std::int64_t rows : {0, 1, 4}) {
    const Buffer gate_up = noisy(DType::bf16, {6, 32}, 4), h(DType::bf16, {6, 16}), dgate_up(DType::bf16, {6, 32});
    swiglu_forward(stream_of(pool), gate_up, h, rows);
    swiglu_backward(stream_of(pool), h, gate_up, dgate_up, rows);
    for (std::int64_t i = 0; i < 6 * 16; ++i) EXPECT_EQ(is_poison(h, i), i >= rows * 16) << i;
    for (std::int64_t i = 0; i < 6 * 32; ++i) EXPECT_EQ(is_poison(dgate_up, i), i >= rows * 32) << i;
  }
}

TEST(SwiGlu, RowsAtAnyAddress) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  for (DType dtype : float_dtypes()) {
    const std::int64_t rows = 3, size = 32, apart = size_of(dtype);
    const Buffer gate_up = noisy(dtype, {rows, 2 * size}, 7, 6.0), dh = noisy(dtype, {rows, size}, 8);
    const Buffer h(dtype, {rows, size}), d(dtype, {rows, 2 * size});
    swiglu_forward(s, gate_up, h, rows);
    swiglu_backward(s, dh, gate_up, d, rows);
    for (const bool in : {false, true}) {  // where the input is displaced, or the result
      const Displaced x(gate_up, in ? apart : 0), dy(dh, in ? apart : 0);
      const Displaced y(Buffer(dtype, h->shape), in ? 0 : apart), dx(Buffer(dtype, d->shape), in ? 0 : apart);
      swiglu_forward(s, x, y, rows);
      swiglu_backward(s, dy, x, dx, rows);
      EXPECT_TRUE(same_bytes(y, h)) << name_of(dtype);
      EXPECT_TRUE(same_bytes(dx, d)) << name_of(dtype);
    }
  }
}

TEST(SwiGlu, LargeGatesStayFinite) {
  ThreadPool pool(1);
  const Buffer gate_up(DType::f32, {1, 4}), h(DType::f32, {1, 2}), dgate_up(DType::f32, {1, 4});
  gate_up.fill([](std::int64_t i) { return i == 0 ? 3e38 : i == 1 ? -3e38 : 1.0; });
  swiglu_forward(stream_of(pool), gate_up, h, 1);
  EXPECT_EQ(h.get(0), gate_up.get(0));
  EXPECT_EQ(h.get(1), 0.0);
  h.fill([](std::int64_t) { return 1.0; });
  swiglu_backward(stream_of(pool), h, gate_up, dgate_up, 1);
  EXPECT_EQ(dgate_up.get(0), 1.0);
  EXPECT_EQ(dgate_up.get(1), 0.0);
}

TEST(SwiGlu, InstructionSetsAndThreadsGiveEqualBits) {
  for (DType dtype : float_dtypes()) {
    const std::int64_t rows = 611, size = 67;
    const Buffer gate_up = noisy(dtype, {rows, 2 * size}, 5, 20.0), dh = noisy(dtype, {rows, size}, 6);
    ThreadPool one(1);
    const Buffer h0(dtype, {rows, size}), d0(dtype, {rows, 2 * size});
    swiglu_forward(Stream(one, Isa::portable), gate_up, h0, rows);
    swiglu_backward(Stream(one, Isa::portable), dh, gate_up, d0, rows);
    for (Isa isa : machine_isas())
      for (int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        const Buffer h(dtype, {rows, size}), d(dtype, {rows, 2 * size});
        swiglu_forward(Stream(pool, isa), gate_up, h, rows);
        swiglu_backward(Stream(pool, isa), dh, gate_up, d, rows);
        EXPECT_TRUE(same_bytes(h0, h)) << name_of(isa) << " " << threads;
        EXPECT_TRUE(same_bytes(d0, d)) << name_of(isa) << " " << threads;
      }
  }
}

}  // namespace
}  // namespace fourmi
