// Experts over ranks: choices that are not held here, and the tree over leaves of experts, against the definition and
// against one rank that holds them all.
#include <algorithm>
#include <cmath>

#include "kernels/ops/permute.h"
#include "kernels/ops/tree_sum.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using namespace test;

constexpr std::int64_t M = 41, K = 3, E = 8;

/// K different experts of E a token, ascending; tokens of one region prefer low experts, so that leaves stay empty.
std::vector<std::int32_t> choose() {
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < M; ++t) {
    std::vector<std::pair<double, std::int32_t>> order;
    for (std::int32_t e = 0; e < E; ++e) order.emplace_back(noise(t * E + e, 9) + (t % 3 == 0 ? 0.3 * e : 0), e);
    std::sort(order.begin(), order.end());
    std::vector<std::int32_t> chosen;
    for (std::int64_t k = 0; k < K; ++k) chosen.push_back(order[static_cast<std::size_t>(k)].second);
    std::sort(chosen.begin(), chosen.end());
    ids.insert(ids.end(), chosen.begin(), chosen.end());
  }
  return ids;
}

/// What the rank holds that has experts [first, first + count).
struct Share {
  Buffer experts{DType::i32, {M, K}}, row_token{DType::i32, {M * K}}, row_of{DType::i32, {M, K}};
  std::vector<std::int32_t> offsets;
  std::int64_t rows = 0;

  Share(const std::vector<std::int32_t>& ids, std::int32_t first, std::int32_t count)
      : offsets(static_cast<std::size_t>(count) + 1) {
    for (std::int64_t i = 0; i < M * K; ++i) {
      const std::int32_t id = ids[static_cast<std::size_t>(i)] - first;
      experts.set(i, id >= 0 && id < count ? id : -1);
    }
    ThreadPool pool(1);
    permute_plan(Stream(pool), experts, offsets, row_token, row_of);
    rows = offsets.back();
  }
  ExpertLeaves leaves(std::int64_t n) const {
    return {.leaves = n, .num_experts = std::ssize(offsets) - 1, .experts_MK = experts};
  }
};

TEST(PermuteAbsent, ChoicesHaveNoRow) {
  const std::vector<std::int32_t> ids = choose();
  const Share all(ids, 0, E), some(ids, 3, 2);
  const std::int32_t begin = all.offsets[3];
  EXPECT_EQ(some.offsets, (std::vector<std::int32_t>{0, all.offsets[4] - begin, all.offsets[5] - begin}));
  ASSERT_GT(some.rows, 0);
  for (std::int64_t r = 0; r < some.rows; ++r) EXPECT_EQ(some.row_token.id(r), all.row_token.id(begin + r));
  for (std::int64_t r = some.rows; r < M * K; ++r) EXPECT_TRUE(is_poison(some.row_token, r));
  for (std::int64_t i = 0; i < M * K; ++i)
    EXPECT_EQ(some.row_of.id(i), some.experts.id(i) < 0 ? -1 : all.row_of.id(i) - begin);
}

TEST(PermuteAbsent, AnOmittedChoiceGivesAndTakesNothing) {
  ThreadPool pool(1);
  const Stream s(pool);
  constexpr std::int64_t D = 20;
  const Share share(choose(), 6, 2);
  const Buffer rows = noisy(DType::f64, {share.rows, D}, 1), dy = noisy(DType::f64, {M, D}, 2);
  const Buffer weights = noisy(DType::f64, {M, K}, 3), y(DType::f64, {M, D}), dx(DType::f64, {M, D});
  const Buffer drows(DType::f64, {share.rows, D}), dweights(DType::f64, {M, K});
  combine_forward(s, rows, weights, share.row_of, y);
  combine_backward(s, dy, rows, weights, share.row_of, drows, dweights);
  permute_backward(s, rows, share.row_of, dx);
  bool a_token_without = false;
  for (std::int64_t t = 0; t < M; ++t) {
    std::vector<double> sum(D), plain(D);
    bool any = false;
    for (std::int64_t i = t * K; i < (t + 1) * K; ++i) {
      const std::int32_t row = share.row_of.id(i);
      if (row < 0) {
        EXPECT_EQ(dweights.get(i), 0.0);
        continue;
      }
      any = true;
      double dot = 0;
      for (std::int64_t d = 0; d < D; ++d) {
        sum[static_cast<std::size_t>(d)] += weights.get(i) * rows.get(row * D + d);
        plain[static_cast<std::size_t>(d)] += rows.get(row * D + d);
        dot += dy.get(t * D + d) * rows.get(row * D + d);
        EXPECT_EQ(drows.get(row * D + d), weights.get(i) * dy.get(t * D + d));
      }
      EXPECT_NEAR(dweights.get(i), dot, 1e-13);
    }
    a_token_without |= !any;
    for (std::int64_t d = 0; d < D; ++d) {
      EXPECT_NEAR(y.get(t * D + d), sum[static_cast<std::size_t>(d)], 1e-14);
      EXPECT_NEAR(dx.get(t * D + d), plain[static_cast<std::size_t>(d)], 1e-14);
    }
  }
  EXPECT_TRUE(a_token_without);
}

/// The definition: per leaf a chain from zero, leaves by a tree.
template <class A>
A tree(const std::vector<A>& leaf, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return leaf[begin];
  const std::size_t middle = (begin + end) / 2;
  return tree(leaf, begin, middle) + tree(leaf, middle, end);
}
template <class A>
Buffer defined(const Share& all, std::int64_t leaves, const Buffer& rows, const Buffer* weights,
               const Buffer& residual) {
  const std::int64_t D = rows->dim(1);
  Buffer y(rows->dtype, {M, D});
  for (std::int64_t i = 0; i < M * D; ++i) {
    std::vector<A> leaf(static_cast<std::size_t>(leaves), A{0});
    for (std::int64_t c = i / D * K; c < (i / D + 1) * K; ++c) {
      A& sum = leaf[static_cast<std::size_t>(all.experts.id(c) * leaves / E)];
      const A row(rows.get(all.row_of.id(c) * D + i % D));
      sum = weights != nullptr ? std::fma(A(weights->get(c)), row, sum) : sum + row;
    }
    y.set(i, double(A(residual.get(i)) + tree(leaf, 0, leaf.size())));
  }
  return y;
}

template <class A>
void expect_ranks_are_the_whole(DType dtype, std::int64_t D, std::int64_t leaves) {
  const std::vector<std::int32_t> ids = choose();
  const Share all(ids, 0, E);
  const DType wide = accumulate_dtype(dtype);
  const Buffer rows = noisy(dtype, {M * K, D}, 1), residual = noisy(dtype, {M, D}, 2), weights = noisy(wide, {M, K}, 3);
  const Buffer dy = noisy(dtype, {M, D}, 4);
  const Buffer forward = defined<A>(all, leaves, rows, &weights, residual);
  const Buffer backward = defined<A>(all, leaves, rows, nullptr, residual);
  Buffer drows(dtype, {M * K, D}), dweights(wide, {M, K});
  on_every_stream([&](const Stream& s) {
    const Buffer y(dtype, {M, D}), dx(dtype, {M, D});
    combine_forward(s, rows, weights, all.row_of, y, residual, all.leaves(leaves));
    permute_backward(s, rows, all.row_of, dx, residual, {}, all.leaves(leaves));
    combine_backward(s, dy, rows, weights, all.row_of, drows, dweights);
    EXPECT_TRUE(y == forward) << leaves << " leaves";
    EXPECT_TRUE(dx == backward) << leaves << " leaves";
  });
  ThreadPool pool(2);
  const Stream s(pool);
  for (std::int32_t ranks = 1; ranks <= leaves; ranks *= 2) {
    const Buffer y_parts(wide, {ranks, M, D}), dx_parts(wide, {ranks, M, D}), y(dtype, {M, D}), dx(dtype, {M, D});
    const Buffer here_drows(dtype, {M * K, D}), dweight_parts(wide, {ranks, M, K}), sum(wide, {M, K});
    std::int64_t row = 0;
    for (std::int32_t r = 0; r < ranks; ++r) {
      const Share share(ids, r * E / ranks, E / ranks);
      const Tensor here = rows->rows(row, row + share.rows);
      const ExpertLeaves cut = share.leaves(leaves / ranks);
      combine_forward(s, here, weights, share.row_of, y_parts->rows(r, r + 1).view({M, D}), {}, cut);
      permute_backward(s, here, share.row_of, dx_parts->rows(r, r + 1).view({M, D}), {}, {}, cut);
      combine_backward(s, dy, here, weights, share.row_of, here_drows->rows(row, row + share.rows),
                       dweight_parts->rows(r, r + 1).view({M, K}));
      row += share.rows;
    }
    ASSERT_EQ(row, M * K);
    tree_sum(s, y_parts, y, residual);
    tree_sum(s, dx_parts, dx, residual);
    tree_sum(s, dweight_parts, sum);
    EXPECT_TRUE(y == forward) << leaves << " leaves, " << ranks << " ranks";
    EXPECT_TRUE(dx == backward) << leaves << " leaves, " << ranks << " ranks";
    EXPECT_TRUE(here_drows == drows) << ranks;
    EXPECT_TRUE(sum == dweights) << ranks;
  }
}

TEST(CombineLeaves, ExpertsOverRanksAreTheWhole) {
  for (std::int64_t leaves : {1, 2, 4, 8})
    for (std::int64_t D : {1, 17, 600}) {
      expect_ranks_are_the_whole<double>(DType::f64, D, leaves);
      expect_ranks_are_the_whole<float>(DType::f32, D, leaves);
      expect_ranks_are_the_whole<float>(DType::bf16, D, leaves);
    }
}

TEST(CombineLeaves, WhatDoesNotFitIsRefused) {
  ThreadPool pool(1);
  const Stream s(pool);
  const Share all(choose(), 0, E);
  const Buffer rows = noisy(DType::f32, {M * K, 4}, 1), weights = noisy(DType::f32, {M, K}, 2), y(DType::f32, {M, 4});
  EXPECT_THROW(combine_forward(s, rows, weights, all.row_of, y, {}, all.leaves(3)), Error);
  EXPECT_THROW(combine_forward(s, rows, weights, all.row_of, y, {}, all.leaves(16)), Error);
  EXPECT_THROW(combine_forward(s, rows, weights, all.row_of, y, {}, {.leaves = 2, .num_experts = E}), Error);
  EXPECT_THROW(permute_backward(s, rows, all.row_of, Buffer(DType::bf16, {M, 4})), Error);
}

}  // namespace
}  // namespace fourmi
