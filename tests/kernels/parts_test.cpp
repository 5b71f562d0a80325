// What carries pieces between ranks: columns copied, the largest of several parts.
#include <gtest/gtest.h>

#include <limits>

#include "kernels/ops/copy.h"
#include "kernels/ops/max_parts.h"
#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using test::Buffer;
using test::stream_of;

TEST(CopyColumns, TakesTheseAndLeavesTheRest) {
  ThreadPool pool(2);
  const Stream stream = stream_of(pool);
  for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::i32}) {
    Buffer from(dtype, {3, 5}), to(dtype, {3, 4});
    from.fill([](std::int64_t i) { return double(i); });
    to.fill([](std::int64_t) { return -1.0; });
    copy_columns(stream, from, 2, to, 1, 2);
    for (std::int64_t r = 0; r < 3; ++r)
      for (std::int64_t c = 0; c < 4; ++c)
        EXPECT_EQ(to.get(r * 4 + c), c == 0 || c == 3 ? -1 : double(r * 5 + 2 + c - 1)) << r << ' ' << c;
    EXPECT_THROW(copy_columns(stream, from, 4, to, 1, 2), Error);
    EXPECT_THROW(copy_columns(stream, from, 2, to, 3, 2), Error);
  }
}

TEST(MaxOfParts, IsExactAndTellsOfNan) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (DType dtype : {DType::f64, DType::f32}) {
    const Buffer parts(dtype, {3, 4}, {-inf, 1, nan, 0.5, -inf, 3, 1, nan, -inf, -2, 9, 7});
    Buffer y(dtype, {4});
    max_of_parts(stream, parts, y);
    EXPECT_EQ(y.get(0), -inf);
    EXPECT_EQ(y.get(1), 3);
    EXPECT_TRUE(std::isnan(y.get(2)));
    EXPECT_TRUE(std::isnan(y.get(3)));
    for (std::int64_t num : {1, 2, 5, 16}) {
      const Buffer many = test::noisy(dtype, {num, 701}, 1), most(dtype, {701});
      max_of_parts(stream, many, most);
      for (std::int64_t i = 0; i < 701; ++i) {
        double want = many.get(i);
        for (std::int64_t p = 1; p < num; ++p) want = std::max(want, many.get(p * 701 + i));
        EXPECT_EQ(most.get(i), want);
      }
    }
    max_of_parts(stream, Buffer(dtype, {2, 0}), Buffer(dtype, {0}));
  }
}

}  // namespace
}  // namespace fourmi
