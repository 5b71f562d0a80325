#include "kernels/ops/permute.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "kernels/numerics/random.h"
#include "tests/device/every_stream.h"
#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using test::Buffer;
using test::on_card;
using test::on_streams;
using test::stream_of;

constexpr DType floats[] = {DType::f64, DType::f32, DType::bf16};

struct Plan {
  std::int64_t M, K, E;
  Buffer experts, row_token, row_of;
  std::vector<std::int32_t> offsets;

  Plan(std::int64_t num_tokens, std::int64_t num_choices, std::int64_t num_experts, const std::vector<double>& choices)
      : M(num_tokens),
        K(num_choices),
        E(num_experts),
        experts(DType::i32, {M, K}, choices),
        row_token(DType::i32, {M * K}),
        row_of(DType::i32, {M, K}),
        offsets(static_cast<std::size_t>(E) + 1, -1) {
    ThreadPool pool(1);
    permute_plan(stream_of(pool), experts, offsets, row_token, row_of);
  }
};

/// Choices at random, every fourth or so absent.
Plan sparse_plan(std::int64_t M, std::int64_t K, std::int64_t E) {
  std::vector<double> choices;
  const RandomKey key = random_key(8, "test", "plan");
  for (std::int64_t i = 0; i < M * K; ++i) {
    const auto bits = random_bits(key, static_cast<std::uint64_t>(i));
    choices.push_back(bits % 4 == 0 ? -1.0 : static_cast<double>(bits / 4 % static_cast<std::uint64_t>(E)));
  }
  return Plan(M, K, E, choices);
}

/// Copies of two tensors, the second one behind the first: of one call, they lie so on a card too. What follows an odd
/// number of values begins where no vector does.
struct Neighbours {
  Buffer memory;
  Tensor first, second;
  Neighbours(const Tensor& a, const Tensor& b)
      : memory(DType::u8, {a.bytes() + b.bytes()}),
        first(memory->data, a.dtype, a.shape),
        second(static_cast<std::byte*>(memory->data) + a.bytes(), b.dtype, b.shape) {
    std::memcpy(first.data, a.data, static_cast<std::size_t>(a.bytes()));
    std::memcpy(second.data, b.data, static_cast<std::size_t>(b.bytes()));
  }
};

/// dweights of the CPU: equal there; a card sums a row in another order.
void expect_dweights(const Buffer& got, const Buffer& expected, std::int64_t D) {
  if (!on_card()) {
    EXPECT_TRUE(got == expected);
    return;
  }
  for (std::int64_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got.get(i), expected.get(i), 4 * static_cast<double>(D) * test::unit_of(got->dtype)) << i;
}

/// K different ascending experts a token; expert 1 gets none, expert 2 only the first token.
Plan uneven_plan(std::int64_t M = 37, std::int64_t K = 3, std::int64_t E = 8) {
  std::vector<double> choices;
  for (std::int64_t t = 0; t < M; ++t) {
    std::vector<std::int64_t> ids(static_cast<std::size_t>(E));
    std::iota(ids.begin(), ids.end(), 0);
    ids.erase(ids.begin() + (t == 0 ? 1 : 2));
    if (t > 0) ids.erase(ids.begin() + 1);
    const RandomKey key = random_key(7, "test", "plan");
    std::sort(ids.begin() + (t == 0 ? 2 : 0), ids.end(), [&](auto a, auto b) {
      return random_bits(key, static_cast<std::uint64_t>(t * E + a)) <
             random_bits(key, static_cast<std::uint64_t>(t * E + b));
    });
    ids.resize(static_cast<std::size_t>(K));
    std::sort(ids.begin(), ids.end());
    choices.insert(choices.end(), ids.begin(), ids.end());
  }
  return Plan(M, K, E, choices);
}

TEST(PermutePlan, SortsByExpertThenToken) {
  Plan plan = uneven_plan();
  std::vector<std::pair<std::int32_t, std::int32_t>> expected;  // (expert, token)
  for (std::int64_t i = 0; i < plan.M * plan.K; ++i)
    expected.emplace_back(plan.experts.id(i), static_cast<std::int32_t>(i / plan.K));
  std::sort(expected.begin(), expected.end());
  for (std::int64_t e = 0; e <= plan.E; ++e)
    EXPECT_EQ(plan.offsets[static_cast<std::size_t>(e)],
              std::count_if(expected.begin(), expected.end(), [&](auto& p) { return p.first < e; }));
  EXPECT_EQ(plan.offsets[2] - plan.offsets[1], 0);  // no token
  EXPECT_EQ(plan.offsets[3] - plan.offsets[2], 1);  // one token
  for (std::int64_t r = 0; r < plan.M * plan.K; ++r)
    EXPECT_EQ(plan.row_token.id(r), expected[static_cast<std::size_t>(r)].second);
  for (std::int64_t i = 0; i < plan.M * plan.K; ++i) {
    const auto& [expert, token] = expected[static_cast<std::size_t>(plan.row_of.id(i))];
    EXPECT_EQ(expert, plan.experts.id(i));
    EXPECT_EQ(token, i / plan.K);
  }
}

TEST(PermutePlan, ManyChoicesSomeOfThemAbsent) {
  for (const auto& [M, K, E] :
       {std::array<std::int64_t, 3>{1500, 4, 70}, {700, 9, 1000}, {45000, 3, 19}, {1, 32, 33}}) {
    const Plan plan = sparse_plan(M, K, E);
    std::vector<std::int64_t> order;  // choices that are here, by expert
    for (std::int64_t i = 0; i < M * K; ++i)
      if (plan.experts.id(i) >= 0) order.push_back(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return plan.experts.id(a) < plan.experts.id(b); });
    std::vector<std::int32_t> offsets(static_cast<std::size_t>(E) + 1);
    for (const std::int64_t i : order) ++offsets[static_cast<std::size_t>(plan.experts.id(i)) + 1];
    std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
    EXPECT_EQ(plan.offsets, offsets);
    for (std::int64_t i = 0; i < M * K; ++i)
      if (plan.experts.id(i) < 0) {
        ASSERT_EQ(plan.row_of.id(i), -1);
      }
    for (std::size_t r = 0; r < order.size(); ++r) {
      ASSERT_EQ(plan.row_of.id(order[r]), r);
      ASSERT_EQ(plan.row_token.id(static_cast<std::int64_t>(r)), order[r] / K);
    }
    for (std::int64_t r = std::ssize(order); r < M * K; ++r) ASSERT_TRUE(test::is_poison(plan.row_token, r));
  }
}

TEST(PermutePlan, MoreRowsThanThereIsRoomFor) {
  ThreadPool pool(1);
  const Buffer experts(DType::i32, {5, 1}, {0, 1, -1, 1, 0}), row_token(DType::i32, {3}), row_of(DType::i32, {5, 1});
  std::vector<std::int32_t> offsets(3);
  EXPECT_THROW(permute_plan(stream_of(pool), experts, offsets, row_token, row_of), Error);
}

TEST(PermutePlan, OneExpertTakesAllAndNoTokens) {
  const Plan all(5, 1, 3, {1, 1, 1, 1, 1});
  EXPECT_EQ(all.offsets, (std::vector<std::int32_t>{0, 0, 5, 5}));
  for (std::int64_t r = 0; r < 5; ++r) EXPECT_EQ(all.row_token.id(r), r);
  const Plan none(0, 2, 3, {});
  EXPECT_EQ(none.offsets, (std::vector<std::int32_t>{0, 0, 0, 0}));
  EXPECT_THROW(Plan(1, 1, 3, {3}), Error);
  EXPECT_THROW(Plan(1, 1, 3, {-2}), Error);
}

TEST(Permute, ForwardCopiesRows) {
  Plan plan = uneven_plan();
  for (std::int64_t D : {1, 16, 129})
    for (DType dtype : floats) {
      Buffer x = test::noisy(dtype, {plan.M, D}, 1), expected(dtype, {plan.M * plan.K, D});
      for (std::int64_t i = 0; i < plan.M * plan.K * D; ++i)
        expected.set(i, x.get(plan.row_token.id(i / D) * D + i % D));
      on_streams([&](const Stream& s) {
        Buffer rows(dtype, {plan.M * plan.K, D});
        permute_forward(s, x, plan.row_token, rows);
        EXPECT_TRUE(rows == expected);
      });
    }
}

/// The documented sequence for one element: chain over k, then the addends, one rounding by set().
template <class A>
double chain(Plan& plan, const Buffer& rows, const Buffer* weights, std::int64_t t, std::int64_t d, std::int64_t D,
             std::initializer_list<const Buffer*> addends) {
  A sum = 0;
  for (std::int64_t k = 0; k < plan.K; ++k) {
    const A value(rows.get(plan.row_of.id(t * plan.K + k) * D + d));
    sum = weights ? std::fma(A(weights->get(t * plan.K + k)), value, sum) : sum + value;
  }
  for (const Buffer* addend : addends)
    if (addend) sum += A(addend->get(t * D + d));
  return double(sum);
}

Buffer chains(Plan& plan, const Buffer& rows, const Buffer* weights, std::int64_t D,
              std::initializer_list<const Buffer*> addends) {
  Buffer y(rows->dtype, {plan.M, D});
  for (std::int64_t i = 0; i < plan.M * D; ++i)
    y.set(i, rows->dtype == DType::f64 ? chain<double>(plan, rows, weights, i / D, i % D, D, addends)
                                       : chain<float>(plan, rows, weights, i / D, i % D, D, addends));
  return y;
}

TEST(Permute, BackwardSumsInOrderThenAddends) {
  Plan plan = uneven_plan();
  for (std::int64_t D : {1, 16, 1100})
    for (DType dtype : floats) {
      Buffer drows = test::noisy(dtype, {plan.M * plan.K, D}, 2), same = test::noisy(dtype, {plan.M, D}, 3);
      Buffer wide = test::noisy(accumulate_dtype(dtype), {plan.M, D}, 4);
      const Buffer none = chains(plan, drows, nullptr, D, {}), one = chains(plan, drows, nullptr, D, {&same});
      const Buffer two = chains(plan, drows, nullptr, D, {&same, &wide}),
                   swapped = chains(plan, drows, nullptr, D, {&wide, &same});
      on_streams([&](const Stream& s) {
        Buffer a(dtype, {plan.M, D}), b = a, c = a, d = same, e = same;
        permute_backward(s, drows, plan.row_of, a);
        permute_backward(s, drows, plan.row_of, b, same);
        permute_backward(s, drows, plan.row_of, c, same, wide);
        permute_backward(s, drows, plan.row_of, d, d, wide);  // in place
        permute_backward(s, drows, plan.row_of, e, wide, e);
        EXPECT_TRUE(a == none);
        EXPECT_TRUE(b == one);
        EXPECT_TRUE(c == two);
        EXPECT_TRUE(d == two);
        EXPECT_TRUE(e == swapped);
      });
    }
}

TEST(Combine, ForwardIsOneChainAndTheResidualLast) {
  Plan plan = uneven_plan();
  for (std::int64_t D : {1, 16, 1100})
    for (DType dtype : floats) {
      Buffer rows = test::noisy(dtype, {plan.M * plan.K, D}, 2), residual = test::noisy(dtype, {plan.M, D}, 3);
      Buffer weights = test::noisy(accumulate_dtype(dtype), {plan.M, plan.K}, 5);
      const Buffer plain = chains(plan, rows, &weights, D, {}), added = chains(plan, rows, &weights, D, {&residual});
      on_streams([&](const Stream& s) {
        Buffer a(dtype, {plan.M, D}), b = a, c = residual;
        combine_forward(s, rows, weights, plan.row_of, a);
        combine_forward(s, rows, weights, plan.row_of, b, residual);
        combine_forward(s, rows, weights, plan.row_of, c, c);
        EXPECT_TRUE(a == plain);
        EXPECT_TRUE(b == added);
        EXPECT_TRUE(c == added);
      });
    }
}

template <class A, class T>
void expect_combine_backward(DType dtype, std::int64_t D) {
  Plan plan = uneven_plan();
  Buffer dy = test::noisy(dtype, {plan.M, D}, 6), rows = test::noisy(dtype, {plan.M * plan.K, D}, 7);
  Buffer weights = test::noisy(dtype_of<A>, {plan.M, plan.K}, 8);
  Buffer drows(dtype, {plan.M * plan.K, D}), dweights(dtype_of<A>, {plan.M, plan.K});
  for (std::int64_t i = 0; i < plan.M * plan.K; ++i) {
    const std::int64_t t = i / plan.K, r = plan.row_of.id(i);
    A lane[16] = {};
    for (std::int64_t d = 0; d < D; ++d) {
      drows.set(r * D + d, double(A(weights.get(i)) * A(dy.get(t * D + d))));
      lane[d % 16] = std::fma(A(dy.get(t * D + d)), A(rows.get(r * D + d)), lane[d % 16]);
    }
    for (int half = 8; half > 0; half /= 2)
      for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
    dweights.set(i, double(lane[0]));
  }
  on_streams([&](const Stream& s) {
    Buffer a(dtype, {plan.M * plan.K, D}), b(dtype_of<A>, {plan.M, plan.K});
    combine_backward(s, dy, rows, weights, plan.row_of, a, b);
    EXPECT_TRUE(a == drows);
    expect_dweights(b, dweights, D);
    Buffer c = rows, d(dtype_of<A>, {plan.M, plan.K});
    combine_backward(s, dy, c, weights, plan.row_of, c, d);  // the gradient replaces the rows
    EXPECT_TRUE(c == drows);
    expect_dweights(d, dweights, D);
  });
}

TEST(Combine, BackwardBits) {
  for (std::int64_t D : {1, 16, 45, 1064}) {
    expect_combine_backward<double, double>(DType::f64, D);
    expect_combine_backward<float, float>(DType::f32, D);
    expect_combine_backward<float, bfloat16>(DType::bf16, D);
  }
}

// loss = <g, combine(permute(x) * 1, w)>: gradients of x, of the weights and of the rows by central differences.
TEST(Combine, GradientsByFiniteDifferences) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool);
  constexpr std::int64_t D = 5;
  Plan plan = uneven_plan(6, 2, 4);
  Buffer x = test::noisy(DType::f64, {6, D}, 1), g = test::noisy(DType::f64, {6, D}, 2);
  Buffer weights = test::noisy(DType::f64, {6, 2}, 3), rows(DType::f64, {12, D}), y(DType::f64, {6, D});
  const auto combine_loss = [&] {
    combine_forward(stream, rows, weights, plan.row_of, y, x);
    double sum = 0;
    for (std::int64_t i = 0; i < y.size(); ++i) sum += g.get(i) * y.get(i);
    return sum;
  };
  const auto loss = [&] {
    permute_forward(stream, x, plan.row_token, rows);
    return combine_loss();
  };
  loss();
  Buffer drows(DType::f64, {12, D}), dweights(DType::f64, {6, 2}), dx(DType::f64, {6, D});
  combine_backward(stream, g, rows, weights, plan.row_of, drows, dweights);
  permute_backward(stream, drows, plan.row_of, dx, g);  // g: through the residual
  for (std::int64_t i = 0; i < rows.size(); ++i)
    EXPECT_NEAR(drows.get(i), test::difference(rows, i, combine_loss), 1e-9);
  for (std::int64_t i = 0; i < weights.size(); ++i)
    EXPECT_NEAR(dweights.get(i), test::difference(weights, i, loss), 1e-9);
  for (std::int64_t i = 0; i < x.size(); ++i) EXPECT_NEAR(dx.get(i), test::difference(x, i, loss), 1e-9);
}

// Absent choices, more of them than are summed at once, results in the accumulator dtype: beside a CPU's stream.
TEST(Combine, AbsentChoicesAndWideResults) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool), cpu(pool);
  Plan plan = sparse_plan(23, 9, 11);
  const std::int64_t R = plan.offsets.back();
  for (std::int64_t D : {1, 24, 96})
    for (DType dtype : floats) {
      const DType wide = accumulate_dtype(dtype);
      const Buffer rows = test::noisy(dtype, {R, D}, 1), weights = test::noisy(wide, {plan.M, plan.K}, 2);
      const Buffer x = test::noisy(dtype, {plan.M, D}, 3), added = test::noisy(wide, {plan.M, D}, 4);
      for (DType result : {dtype, wide}) {
        const Buffer y(result, {plan.M, D}), dx(result, {plan.M, D}), y_cpu = y, dx_cpu = dx;
        combine_forward(s, rows, weights, plan.row_of, y, added);
        combine_forward(cpu, rows, weights, plan.row_of, y_cpu, added);
        permute_backward(s, rows, plan.row_of, dx, x, added);
        permute_backward(cpu, rows, plan.row_of, dx_cpu, x, added);
        EXPECT_TRUE(y == y_cpu && dx == dx_cpu) << name_of(dtype) << " to " << name_of(result) << ", " << D;
      }
      const Buffer drows(dtype, {R, D}), drows_cpu = drows, dw(wide, {plan.M, plan.K}), dw_cpu = dw;
      combine_backward(s, x, rows, weights, plan.row_of, drows, dw);
      combine_backward(cpu, x, rows, weights, plan.row_of, drows_cpu, dw_cpu);
      EXPECT_TRUE(drows == drows_cpu);
      expect_dweights(dw, dw_cpu, D);
      for (std::int64_t i = 0; i < dw.size(); ++i)
        if (plan.row_of.id(i) < 0) {
          EXPECT_EQ(dw.get(i), 0.0);
        }
    }
}

TEST(Permute, RowsAtAnyAddress) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool), cpu(pool);
  Plan plan = uneven_plan();
  const std::int64_t R = plan.M * plan.K, D = 32;  // R is odd
  for (DType dtype : {DType::f32, DType::bf16}) {
    const Buffer rows = test::noisy(dtype, {R, D}, 1), x = test::noisy(dtype, {plan.M, D}, 2);
    const Buffer dx(dtype, {plan.M, D}), dx_cpu = dx, moved_cpu(dtype, {R, D});
    const Neighbours in(plan.row_of, rows), out(plan.row_token, moved_cpu);
    permute_backward(s, in.second, in.first, dx, x);
    permute_backward(cpu, rows, plan.row_of, dx_cpu, x);
    EXPECT_TRUE(dx == dx_cpu);
    permute_forward(s, x, out.first, out.second);
    permute_forward(cpu, x, plan.row_token, moved_cpu);
    EXPECT_TRUE(test::same_bytes(out.second, moved_cpu));
  }
  const Buffer rows = test::noisy(DType::f32, {R, D}, 3), weights = test::noisy(DType::f32, {plan.M, plan.K}, 4);
  const Buffer dy = test::noisy(DType::f32, {plan.M, D}, 5);
  const Neighbours in(weights, rows);
  const Buffer y(DType::f32, {plan.M, D}), y_cpu = y;
  combine_forward(s, in.second, in.first, plan.row_of, y);
  combine_forward(cpu, rows, weights, plan.row_of, y_cpu);
  EXPECT_TRUE(y == y_cpu);
  const Buffer drows(DType::f32, {R, D}), drows_cpu = drows, dw(DType::f32, {plan.M, plan.K}), dw_cpu = dw;
  combine_backward(s, dy, in.second, in.first, plan.row_of, drows, dw);
  combine_backward(cpu, dy, rows, weights, plan.row_of, drows_cpu, dw_cpu);
  EXPECT_TRUE(drows == drows_cpu);
  expect_dweights(dw, dw_cpu, D);
}

TEST(Permute, NoTokens) {
  Plan plan(0, 2, 3, {});
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  Buffer x(DType::f32, {0, 4}), rows(DType::f32, {0, 4}), weights(DType::f32, {0, 2}), dweights(DType::f32, {0, 2});
  permute_forward(s, x, plan.row_token, rows);
  permute_backward(s, rows, plan.row_of, x);
  combine_forward(s, rows, weights, plan.row_of, x);
  combine_backward(s, x, rows, weights, plan.row_of, rows, dweights);
}

}  // namespace
}  // namespace fourmi
