#include "kernels/ops/bias.h"

#include <gtest/gtest.h>

#include "kernels/ops/window.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using namespace test;

TEST(Bias, IsAddedWithOneRounding) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    const Buffer x = noisy(dtype, {7, 33}, 1), bias = noisy(accumulate_dtype(dtype), {33}, 2), y = x;
    bias_add(Stream(pool), bias, y);
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const Buffer sum(dtype, {1}, {x.get(i) + bias.get(i % 33)});
      EXPECT_NEAR(y.get(i), sum.get(0), dtype == DType::bf16 ? 0 : unit_of(dtype)) << i;
    }
  }
}

TEST(Bias, GradientIsTheSumOfRows) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (DType gradient : {accumulate_dtype(dtype), DType::fx128}) {
      const Buffer dy = noisy(dtype, {50, 300}, 1), db(gradient, {300});
      db.fill([](std::int64_t) { return 4.0; });
      bias_backward(Stream(pool), dy, db, {.rows = gradient == DType::fx128 ? 1 : 0});
      EXPECT_LT(worst_error(db,
                            [&](std::int64_t n) {
                              double sum = 4;
                              for (std::int64_t m = 0; m < 50; ++m) sum += dy.get(m * 300 + n);
                              return sum;
                            }),
                100 * unit_of(accumulate_dtype(dtype)));
    }
}

TEST(Bias, InstructionSetsAndThreadsGiveEqualBits) {
  for (DType dtype : float_dtypes()) {
    const Buffer x = noisy(dtype, {40, 600}, 1), bias = noisy(accumulate_dtype(dtype), {600}, 2);
    std::vector<Buffer> reference;
    on_every_stream([&](const Stream& stream) {
      const Buffer y = x, db = bias;
      bias_add(stream, bias, y);
      bias_backward(stream, x, db, {.rows = 3});
      if (reference.empty()) reference = {y, db};
      EXPECT_TRUE(y == reference[0] && db == reference[1]);
    });
  }
}

TEST(Window, BeginsSoManyKeysBeforeTheEnd) {
  ThreadPool pool(1);
  const Buffer begin(DType::i32, {7}, {0, 0, 0, 0, 4, 4, 4}), end(DType::i32, {7}, {1, 2, 3, 4, 5, 6, 7}),
      out(DType::i32, {7});
  window_key_begin(Stream(pool), 2, begin, end, out);
  EXPECT_EQ(out.values(), (std::vector<double>{0, 0, 1, 2, 4, 4, 5}));
}

}  // namespace
}  // namespace fourmi
