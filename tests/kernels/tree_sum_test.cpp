// The tree over partials: its order, absent parts, subtrees, residual and the one rounding.
#include "kernels/ops/tree_sum.h"

#include <array>

#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"
#include "tests/kernels/every_stream.h"

namespace fourmi {
namespace {

using namespace test;

/// The definition: neighbours first.
template <class T>
T tree(const std::vector<T>& parts, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return parts[begin];
  const std::size_t middle = (begin + end) / 2;
  return tree(parts, begin, middle) + tree(parts, middle, end);
}

template <class T, class Y>
Buffer expected(const Buffer& parts, std::int64_t P, std::int64_t n, const Buffer* residual) {
  Buffer y(dtype_of<Y>, {n});
  for (std::int64_t i = 0; i < n; ++i) {
    std::vector<T> column;
    for (std::int64_t p = 0; p < P; ++p) column.push_back(parts.at<T>(p * n + i));
    T sum = tree(column, 0, column.size());
    if (residual != nullptr) sum = static_cast<T>(residual->at<Y>(i)) + sum;
    y.at<Y>(i) = static_cast<Y>(sum);
  }
  return y;
}

template <class T, class Y>
void expect_tree() {
  for (std::int64_t P : {1, 2, 4, 8, 16})
    for (std::int64_t n : {1, 255, 1000}) {
      const Buffer parts = noisy(dtype_of<T>, {P, n}, 1), residual = noisy(dtype_of<Y>, {n}, 2);
      const Buffer plain = expected<T, Y>(parts, P, n, nullptr), added = expected<T, Y>(parts, P, n, &residual);
      on_streams_of_device([&](const Stream& s) {
        const Buffer a(dtype_of<Y>, {n}), b(dtype_of<Y>, {n}), c = residual, d(dtype_of<Y>, {n});
        tree_sum(s, parts, a);
        tree_sum(s, parts, b, residual);
        tree_sum(s, parts, c, c);
        std::vector<Tensor> list;
        for (std::int64_t p = 0; p < P; ++p) list.push_back(parts->rows(p, p + 1));
        tree_sum(s, list, d, residual);
        EXPECT_TRUE(a == plain) << P << " parts of " << n;
        EXPECT_TRUE(b == added) << P << " parts of " << n;
        EXPECT_TRUE(c == added) << P << " parts of " << n;
        EXPECT_TRUE(d == added) << P << " parts of " << n;
      });
    }
}

TEST(TreeSum, NeighboursFirstThenTheResidual) {
  expect_tree<double, double>();
  expect_tree<float, float>();
  expect_tree<float, bfloat16>();
}

TEST(TreeSum, SubtreesOfRanksAreTheWhole) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  constexpr std::int64_t n = 300;
  const Buffer parts = noisy(DType::f32, {16, n}, 3), whole(DType::f32, {n});
  tree_sum(s, parts, whole);
  for (std::int64_t ranks : {2, 4, 8, 16}) {
    const Buffer received(DType::f32, {ranks, n}), y(DType::f32, {n});
    for (std::int64_t r = 0; r < ranks; ++r)
      tree_sum(s, parts->rows(r * 16 / ranks, (r + 1) * 16 / ranks), received->rows(r, r + 1));
    tree_sum(s, received, y);
    EXPECT_TRUE(y == whole) << ranks;
  }
}

TEST(TreeSum, AnAbsentPartIsZeros) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  constexpr std::int64_t P = 8, n = 5;
  for (int absent = 0; absent < 256; ++absent) {  // every set of absent parts
    const Buffer parts = noisy(DType::f32, {P, n}, 4);
    for (std::int64_t p = 0; p < P; ++p) parts.set(p * n, -0.0);
    std::array<Tensor, P> list;
    for (std::int64_t p = 0; p < P; ++p) {
      if (absent >> p & 1)
        for (std::int64_t i = 0; i < n; ++i) parts.set(p * n + i, 0.0);
      else
        list[static_cast<std::size_t>(p)] = parts->rows(p, p + 1);
    }
    const Buffer a(DType::f32, {n}), b(DType::f32, {n});
    tree_sum(s, parts, a);
    tree_sum(s, list, b);
    EXPECT_TRUE(a == b) << absent;  // of a -0 too
    EXPECT_EQ(std::signbit(b.get(0)), absent == 0);
  }
}

TEST(TreeSum, ManyParts) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  for (std::int64_t P : {32, 64, 256, 1024})
    for (std::int64_t n : {3, 8}) {
      const Buffer parts = noisy(DType::f32, {P, n}, 5), residual = noisy(DType::bf16, {n}, 6), y(DType::f32, {n}),
                   z(DType::bf16, {n});
      std::vector<Tensor> list(static_cast<std::size_t>(P));
      for (std::int64_t p = 0; p < P; ++p) {
        if (p % 5 == 1 || (P / 4 <= p && p < P / 2))
          for (std::int64_t i = 0; i < n; ++i) parts.set(p * n + i, 0.0);
        else
          list[static_cast<std::size_t>(p)] = parts->rows(p, p + 1);
      }
      tree_sum(s, parts, y);
      EXPECT_TRUE((y == expected<float, float>(parts, P, n, nullptr))) << P;
      tree_sum(s, list, z, residual);
      EXPECT_TRUE((z == expected<float, bfloat16>(parts, P, n, &residual))) << P;
    }
}

TEST(TreeSum, NothingPresentIsZeros) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  for (std::size_t P : {1, 2, 16}) {
    const std::vector<Tensor> none(P);
    const Buffer y(DType::f32, {9}), residual = noisy(DType::bf16, {9}, 1), z(DType::bf16, {9});
    tree_sum(s, none, y);
    tree_sum(s, none, z, residual);
    for (std::int64_t i = 0; i < 9; ++i) EXPECT_EQ(y.get(i), 0.0);
    EXPECT_TRUE(z == residual);
  }
  const Buffer empty(DType::f32, {0}), parts(DType::f32, {2, 0});
  tree_sum(s, parts, empty);
}

TEST(TreeSum, WhatDoesNotFitIsRefused) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  const Buffer three(DType::f32, {3, 4}), two(DType::f32, {2, 4}), y(DType::f32, {4}), wide(DType::f64, {4}),
      narrow(DType::bf16, {4});
  EXPECT_THROW(tree_sum(s, three, y), Error);
  EXPECT_THROW(tree_sum(s, two, wide), Error);
  EXPECT_THROW(tree_sum(s, two, y, narrow), Error);
  EXPECT_THROW(tree_sum(s, two, Buffer(DType::f32, {5})), Error);
  EXPECT_THROW(tree_sum(s, std::span<const Tensor>{}, y), Error);
  const std::array<Tensor, 2> unlike{two->rows(0, 1), wide};
  EXPECT_THROW(tree_sum(s, unlike, y), Error);
}

}  // namespace
}  // namespace fourmi
