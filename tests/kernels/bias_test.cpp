#include "kernels/ops/bias.h"

#include <gtest/gtest.h>

#include "kernels/ops/window.h"
#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using namespace test;

TEST(Bias, IsAddedWithOneRounding) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    const Buffer x = noisy(dtype, {7, 33}, 1), bias = noisy(accumulate_dtype(dtype), {33}, 2), y = x;
    bias_add(stream_of(pool), bias, y);
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
      if (on_card() && gradient == DType::fx128) continue;  // mode layout's
      const Buffer dy = noisy(dtype, {50, 300}, 1), db(gradient, {300});
      db.fill([](std::int64_t) { return 4.0; });
      bias_backward(stream_of(pool), dy, db, {.rows = gradient == DType::fx128 ? 1 : 0});
      EXPECT_LT(worst_error(db,
                            [&](std::int64_t n) {
                              double sum = 4;
                              for (std::int64_t m = 0; m < 50; ++m) sum += dy.get(m * 300 + n);
                              return sum;
                            }),
                100 * unit_of(accumulate_dtype(dtype)));
    }
}

// Columns and rows that vectors divide, and such that they do not; addresses where no vector begins. The CPU's bits,
// but for the order of the sums.
TEST(Bias, AnySizeAndAddress) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (std::int64_t rows : {0, 1, 7, 33, 500})
      for (std::int64_t size : {1, 8, 31, 264})
        for (std::int64_t shift : {0, 1}) {
          const DType wide = accumulate_dtype(dtype);
          const Buffer all = noisy(dtype, {shift + rows * size}, 1), bias = noisy(wide, {size}, 2),
                       start = noisy(wide, {size}, 3), want = all, db = start;
          const auto x_of = [&](const Buffer& b) { return b->rows(shift, shift + rows * size).view({rows, size}); };
          bias_backward(stream_of(pool), x_of(all), db);
          EXPECT_LT(worst_error(db,
                                [&](std::int64_t n) {
                                  double sum = start.get(n);
                                  for (std::int64_t m = 0; m < rows; ++m) sum += all.get(shift + m * size + n);
                                  return sum;
                                }),
                    300 * unit_of(wide))
              << rows << " " << size;
          bias_add(stream_of(pool), bias, x_of(all));
          bias_add(Stream(pool), bias, x_of(want));
          EXPECT_TRUE(all == want) << name_of(dtype) << " " << rows << " " << size << " " << shift;
        }
}

TEST(Bias, InstructionSetsAndThreadsGiveEqualBits) {
  if (on_card()) GTEST_SKIP() << "of the CPU";
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
  window_key_begin(stream_of(pool), 2, begin, end, out);
  EXPECT_EQ(out.values(), (std::vector<double>{0, 0, 1, 2, 4, 4, 5}));
  const Buffer from(DType::i32, {1001}), to(DType::i32, {1001}), begins(DType::i32, {1001});
  from.fill([](std::int64_t i) { return double(i / 100 * 100); });
  to.fill([](std::int64_t i) { return double(i + 1); });
  window_key_begin(stream_of(pool), 7, from, to, begins);
  for (std::int64_t i = 0; i < 1001; ++i) EXPECT_EQ(begins.get(i), std::max(from.get(i), to.get(i) - 7)) << i;
  const Buffer none(DType::i32, {0});
  window_key_begin(stream_of(pool), 7, none, none, none);
}

}  // namespace
}  // namespace fourmi
