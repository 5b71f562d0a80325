#include "kernels/ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"
#include "tests/kernels/every_stream.h"

namespace fourmi {
namespace {

using test::Buffer;
using test::on_card;
using test::on_streams_of_device;

constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t large = 200001;  // several ranges of work, odd

ThreadPool one_thread(1);
const Stream& stream() {
  static const Stream s = test::stream_of(one_thread);
  return s;
}

TEST(MaxAbs, IsTheLargestMagnitude) {
  for (DType dtype : {DType::f32, DType::f64}) {
    EXPECT_EQ(max_abs(stream(), Buffer(dtype, {4}, {1, -3, 2, 0.5})), 3.0);
    EXPECT_EQ(max_abs(stream(), Buffer(dtype, {2}, {-0.0, 0.0})), 0.0);
    EXPECT_FALSE(std::signbit(max_abs(stream(), Buffer(dtype, {1}, {-0.0}))));
    EXPECT_EQ(max_abs(stream(), Buffer(dtype, {0})), 0.0);
    EXPECT_EQ(max_abs(stream(), Buffer(dtype, {3}, {1, -infinity, 2})), infinity);
    EXPECT_TRUE(std::isnan(max_abs(stream(), Buffer(dtype, {3}, {infinity, nan, 2}))));
    EXPECT_TRUE(std::isnan(max_abs(stream(), Buffer(dtype, {3}, {infinity, -nan, 2}))));
  }
  EXPECT_EQ(max_abs(stream(), Buffer(DType::f32, {1}, {1e-44})), static_cast<double>(1e-44f));
  Buffer x = test::noisy(DType::f32, {large}, 1);
  for (std::int64_t place : {std::int64_t{0}, large / 2, large - 1}) {
    const double before = x.get(place);
    x.set(place, -1000);
    on_streams_of_device([&](const Stream& s) { EXPECT_EQ(max_abs(s, x), 1000.0); });
    x.set(place, nan);
    on_streams_of_device([&](const Stream& s) { EXPECT_TRUE(std::isnan(max_abs(s, x))); });
    x.set(place, before);
  }
}

TEST(SumSquares, HandWorked) {
  // 3 and 4 below 2^3: (3/8)^2 + (4/8)^2 = 25/64 in units of 2^-60.
  for (DType dtype : {DType::f32, DType::f64}) {
    const int128 total = sum_squares(stream(), Buffer(dtype, {3}, {3, -4, 0}), 3);
    EXPECT_TRUE(total == int128{25} << 54);
    EXPECT_EQ(norm_from(total, 3), 5.0);
  }
  EXPECT_TRUE(sum_squares(stream(), Buffer(DType::f32, {0}), 0) == 0);
  EXPECT_EQ(norm_from(0, 5), 0.0);
  // 2^-30 of the bound is the last that counts; below it terms are cut off, never rounded up.
  EXPECT_TRUE(sum_squares(stream(), Buffer(DType::f64, {1}, {0x1p-30}), 0) == 1);
  EXPECT_TRUE(sum_squares(stream(), Buffer(DType::f64, {1}, {0x1.fffp-31}), 0) == 0);
}

TEST(SumSquares, FullRangeOfDoubles) {
  for (double scale : {1e300, 0x1p1023, 1e-300, 0x1p-1040, 1.0}) {
    Buffer x(DType::f64, {2}, {scale, -scale / 2});
    int exponent = 0;
    std::frexp(max_abs(stream(), x), &exponent);
    const double norm = norm_from(sum_squares(stream(), x, exponent), exponent);
    EXPECT_NEAR(norm / scale, std::sqrt(1.25), 1e-8) << scale;
  }
}

template <class T>
void expect_exact_norm(DType dtype) {
  Buffer x = test::noisy(dtype, {large}, 2, 0.01);
  int exponent = 0;
  std::frexp(max_abs(stream(), x), &exponent);
  const int128 total = sum_squares(stream(), x, exponent);
  long double expected = 0;
  for (std::int64_t i = 0; i < large; ++i) expected += static_cast<long double>(x.get(i)) * x.get(i);
  EXPECT_NEAR(norm_from(total, exponent) / static_cast<double>(std::sqrt(expected)), 1.0, 1e-12);
  on_streams_of_device([&](const Stream& s) { EXPECT_TRUE(sum_squares(s, x, exponent) == total); });

  Buffer shuffled = x;
  std::reverse(shuffled.tensor().as<T>(), shuffled.tensor().as<T>() + large);
  std::rotate(shuffled.tensor().as<T>(), shuffled.tensor().as<T>() + 777, shuffled.tensor().as<T>() + large);
  EXPECT_TRUE(sum_squares(stream(), shuffled, exponent) == total);
  int128 parts = 0;
  for (std::int64_t begin = 0; begin < large; begin += 70001)
    parts += sum_squares(stream(), x.tensor().rows(begin, std::min(large, begin + 70001)), exponent);
  EXPECT_TRUE(parts == total);
}

TEST(SumSquares, SameTotalForEveryOrderAndCut) {
  expect_exact_norm<float>(DType::f32);
  expect_exact_norm<double>(DType::f64);
}

TEST(SumSquares, RefusesWhatDoesNotFit) {
  for (double bad : {nan, infinity, -infinity, 1.0, -2.5})
    EXPECT_THROW(sum_squares(stream(), Buffer(DType::f32, {3}, {0.5, bad, 0.25}), 0), Error) << bad;
}

TEST(SumFixed, SameTotalForEveryOrderAndCut) {
  for (DType dtype : {DType::f32, DType::f64}) {
    Buffer x = test::noisy(dtype, {large}, 3, 5.0);
    const int128 total = sum_fixed(stream(), x);
    __float128 expected = 0;
    for (std::int64_t i = 0; i < large; ++i) expected += x.get(i);
    EXPECT_NEAR(from_fixed(total), static_cast<double>(expected), 1e-12);
    on_streams_of_device([&](const Stream& s) { EXPECT_TRUE(sum_fixed(s, x) == total); });
    int128 parts = 0;
    const std::int64_t each = on_card() ? 6703 : 67;  // a call to an emulated card is slow
    for (std::int64_t begin = large; begin > 0; begin -= each)
      parts += sum_fixed(stream(), x.tensor().rows(std::max<std::int64_t>(0, begin - each), begin));
    EXPECT_TRUE(parts == total);
  }
  // What floats lose and integers keep.
  EXPECT_EQ(from_fixed(sum_fixed(stream(), Buffer(DType::f32, {3}, {0x1p39, 0x1p-40, -0x1p39}))), 0x1p-40);
  EXPECT_TRUE(sum_fixed(stream(), Buffer(DType::f32, {0})) == 0);
}

TEST(SumFixed, RefusesWhatHasNoExactSum) {
  for (double bad : {nan, infinity, -infinity, 0x1p40, -0x1p41}) {
    try {
      sum_fixed(stream(), Buffer(DType::f32, {3}, {1, bad, 2}));
      FAIL() << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::guard);
      EXPECT_NE(std::string(e.what()).find("element 1"), std::string::npos) << e.what();
    }
  }
  EXPECT_EQ(from_fixed(sum_fixed(stream(), Buffer(DType::f64, {1}, {-0x1.fffp39}))), -0x1.fffp39);
}

TEST(Convert, RoundsOnceBetweenAllFloats) {
  for (DType from : {DType::f64, DType::f32, DType::bf16})
    for (DType to : {DType::f64, DType::f32, DType::bf16}) {
      Buffer x = test::noisy(from, {large}, 4), first(to, {large});
      x.set(0, infinity);
      x.set(1, -infinity);
      x.set(2, -0.0);
      convert(stream(), x, first);
      for (std::int64_t i = 0; i < large; ++i) {
        Buffer one(to, {1});
        one.set(0, x.get(i));
        ASSERT_EQ(std::memcmp(one.tensor().data, first.tensor().rows(i, i + 1).data, one.tensor().bytes()), 0)
            << name_of(from) << " to " << name_of(to) << " " << x.get(i);
      }
      x.set(3, nan);
      convert(stream(), x, first);
      EXPECT_TRUE(std::isnan(first.get(3)));
      on_streams_of_device([&](const Stream& s) {
        Buffer y(to, {large});
        convert(s, x, y);
        EXPECT_TRUE(y == first);
      });
    }
}

TEST(Convert, FixedPointRoundsOnce) {
  if (on_card()) GTEST_SKIP() << "fx128 is mode layout's";
  const std::vector<int128> totals = {0,
                                      1,
                                      -1,
                                      int128{1} << 64,
                                      (int128{1} << 88) + (int128{1} << 64),      // a tie in f32: to even
                                      (int128{1} << 88) + (int128{1} << 64) + 1,  // just above the tie
                                      (int128{3} << 87) + (int128{1} << 64) - 1,
                                      -((int128{1} << 88) + (int128{1} << 64) + 1),
                                      (int128{1} << 120) - 1,
                                      -(int128{1} << 123) - 12345};
  const auto n = static_cast<std::int64_t>(totals.size());
  Buffer x(DType::fx128, {n}), f(DType::f32, {n}), d(DType::f64, {n});
  for (std::int64_t i = 0; i < n; ++i) x.at<int128>(i) = totals[static_cast<std::size_t>(i)];
  convert(stream(), x, f);
  convert(stream(), x, d);
  for (std::int64_t i = 0; i < n; ++i) {  // the compiler's own conversion of integers rounds once, too
    EXPECT_EQ(f.at<float>(i), static_cast<float>(totals[static_cast<std::size_t>(i)]) * 0x1p-64f);
    EXPECT_EQ(d.at<double>(i), static_cast<double>(totals[static_cast<std::size_t>(i)]) * 0x1p-64);
  }
  Buffer b(DType::bf16, {n}), shorter(DType::f32, {n - 1});
  EXPECT_THROW(convert(stream(), x, b), Error);
  EXPECT_THROW(convert(stream(), x, shorter), Error);
}

// Around what a card's block takes at a time, and the singles behind the last vector.
TEST(AddInPlace, AnySize) {
  for (const std::int64_t size : {1, 2, 3, 5, 8, 1023, 1024, 1029, 2047, 2048, 2049, 4101})
    for (DType dtype : {DType::f64, DType::f32}) {
      const Buffer a = test::noisy(dtype, {size}, 5), b = test::noisy(dtype, {size}, 6), sum = b;
      const Buffer narrow(DType::bf16, {size}), wide(DType::f64, {size}), copy(dtype, {size});
      add_in_place(stream(), a, sum);
      convert(stream(), a, narrow);
      convert(stream(), narrow, wide);
      convert(stream(), a, copy);
      for (std::int64_t i = 0; i < size; ++i) {
        const double both = a.get(i) + b.get(i);
        ASSERT_EQ(sum.get(i), dtype == DType::f64 ? both : double(float(a.get(i)) + float(b.get(i)))) << size;
        ASSERT_EQ(narrow.get(i), static_cast<double>(round_to<bfloat16>(a.get(i)))) << size;
        ASSERT_EQ(wide.get(i), narrow.get(i)) << size;
        ASSERT_EQ(copy.get(i), a.get(i)) << size;
      }
    }
}

TEST(AddInPlace, AddsElementWise) {
  for (DType dtype : {DType::f64, DType::f32}) {
    Buffer a = test::noisy(dtype, {large}, 5), b = test::noisy(dtype, {large}, 6), first = b;
    add_in_place(stream(), a, first);
    for (std::int64_t i = 0; i < large; ++i)
      ASSERT_EQ(first.get(i), dtype == DType::f64 ? a.get(i) + b.get(i) : double(float(a.get(i)) + float(b.get(i))));
    on_streams_of_device([&](const Stream& s) {
      Buffer y = b;
      add_in_place(s, a, y);
      EXPECT_TRUE(y == first);
    });
  }
  Buffer a(DType::fx128, {2}, {0x1p39, -1.5}), b(DType::fx128, {2}, {0x1p-64, 0.25});
  if (on_card()) {  // fx128 is mode layout's
    EXPECT_THROW(add_in_place(stream(), a, b), Error);
    EXPECT_THROW(convert(stream(), a, Buffer(DType::f32, {2})), Error);
  } else {
    add_in_place(stream(), a, b);
    EXPECT_TRUE(b.at<int128>(0) == (int128{1} << 103) + 1);
    EXPECT_EQ(b.get(1), -1.25);
  }
  EXPECT_THROW(add_in_place(stream(), a, Buffer(DType::f32, {2})), Error);
  EXPECT_THROW(add_in_place(stream(), Buffer(DType::bf16, {2}), Buffer(DType::bf16, {2})), Error);
}

// Source and destination one after another in one buffer: the second begins where no vector does.
TEST(Convert, AnySizeAndAddress) {
  for (DType dtype : test::float_dtypes())
    for (std::int64_t n : {0, 1, 7, 8, 9, 1003})
      for (std::int64_t apart : {n, (n + 31) / 32 * 32}) {
        Buffer both = test::noisy(dtype, {apart + n}, 7);
        const Tensor src = both->rows(0, n), dst = both->rows(apart, apart + n);
        const Buffer before = both;
        if (dtype != DType::bf16) {
          add_in_place(stream(), src, dst);
          for (std::int64_t i = 0; i < n; ++i) {
            const double x = before.get(i), y = before.get(apart + i);
            ASSERT_EQ(both.get(apart + i), dtype == DType::f64 ? x + y : double(float(x) + float(y))) << n;
          }
        }
        convert(stream(), src, dst);
        EXPECT_TRUE(test::same_bytes(src, dst)) << name_of(dtype) << " " << n << " " << apart;
      }
}

// A part of a tensor begins anywhere.
TEST(Reductions, AnySizeAndAddress) {
  for (DType dtype : {DType::f32, DType::f64}) {
    const Buffer x = test::noisy(dtype, {20}, 8);
    for (std::int64_t begin = 0; begin < 5; ++begin)
      for (std::int64_t end = begin; end <= 20; ++end) {
        double most = 0;
        int128 squares = 0, sum = 0;
        for (std::int64_t i = begin; i < end; ++i) {
          most = std::max(most, std::abs(x.get(i)));
          squares += static_cast<int128>(x.get(i) * x.get(i) * 0x1p60);
          sum += to_fixed128(x.get(i));
        }
        const Tensor part = x->rows(begin, end);
        EXPECT_EQ(max_abs(stream(), part), most) << begin << " " << end;
        EXPECT_TRUE(sum_squares(stream(), part, 0) == squares) << begin << " " << end;
        EXPECT_TRUE(sum_fixed(stream(), part) == sum) << begin << " " << end;
      }
  }
}

TEST(FillZero, ClearsEveryByte) {
  for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::fx128, DType::i32, DType::u8})
    on_streams_of_device([&](const Stream& s) {
      Buffer x(dtype, {large});
      fill_zero(s, x);
      const auto* bytes = static_cast<const std::byte*>(x.tensor().data);
      EXPECT_TRUE(std::all_of(bytes, bytes + x.tensor().bytes(), [](std::byte b) { return b == std::byte{0}; }));
    });
}

}  // namespace
}  // namespace fourmi
