// How transfers behave: two under way at once, nothing from the heap, memory within the bound; and the sum of copies.
#include <barrier>

#include "parallel/dispatch/exchange.h"
#include "tests/dispatch/member.h"
#include "tests/steady/heap.h"

namespace fourmi::testing {
namespace {

/// What a rank needs for one micro-batch under way.
struct Member {
  Member(Dispatcher& d, const Layer& l, int rank)
      : plan(d.make_plan()),
        x(make_rows<float>(l, rank, l.D, of_x)),
        weights(make_rows<float>(l, rank, l.K, of_weights)),
        y(x.x.size(), NAN) {
    for (std::int64_t t = 0; t < l.tokens[static_cast<std::size_t>(rank)]; ++t)
      for (std::int32_t e : l.experts(rank, t)) ids.push_back(e);
    plan.fields(d.sizes(), memory.visitor());
    buffers.fields(d.sizes(), memory.visitor());
    arrivals.fields(d.sizes(), l.D, DType::f32, DType::f32, memory.visitor());
    partial.resize(static_cast<std::size_t>(std::max(d.sizes().max_rows, d.options().max_tokens) * l.D));
  }
  Tensor experts() { return {ids.data(), DType::i32, {static_cast<std::int64_t>(ids.size()) / weights.D, weights.D}}; }
  Tensor result() { return {y.data(), DType::f32, {static_cast<std::int64_t>(y.size()) / x.D, x.D}}; }
  /// Each row once, as if every expert were the identity: a token gets as many copies of itself as ranks saw it.
  Tensor copy(const Arrivals& a) {
    std::memcpy(partial.data(), a.x_UD.data, static_cast<std::size_t>(a.x_UD.bytes()));
    return {partial.data(), DType::f32, a.x_UD.shape};
  }

  DispatchPlan plan;
  DispatchBuffers buffers;
  Arrivals arrivals;
  Poisoned memory;
  Rows<float> x, weights;
  std::vector<std::int32_t> ids;
  std::vector<float> y, partial;
};

std::vector<Way> remote_ways() {
  return {{DispatchMethod::all_to_all},
          {DispatchMethod::hierarchical, 1},
          {DispatchMethod::hierarchical, 2},
          {DispatchMethod::hierarchical, 4},
          {DispatchMethod::all_to_all, 1, 20, 5},
          {DispatchMethod::hierarchical, 2, 20, 5},
          {DispatchMethod::device},
          {DispatchMethod::device, 1, 20, 5},
          {.method = DispatchMethod::device, .num_channels = 1, .num_slots = 2},
          {DispatchMethod::rail, 2},
          {DispatchMethod::rail, 2, 20, 5},
          {.method = DispatchMethod::rail, .node_size = 1, .num_channels = 3, .num_slots = 2}};
}

TEST(DispatchTransfers, TwoMicroBatchesUnderWay) {
  Layer one{.tokens = {15, 15, 15, 15}}, other = one;
  other.seed = 2;
  for (const Way& way : remote_ways())
    run_members(4, [&](Group& group) {
      ThreadPool pool(1);
      const Stream stream(pool);
      const OwnDispatcher d(way, group, options_of<float>(one, way));
      Member alone(*d, one, group.rank()), a(*d, one, group.rank()), b(*d, other, group.rank());
      for (Member* m : {&alone, &a, &b}) d->plan(stream, m->experts(), m->plan, m->buffers);
      for (int q = 0; q < alone.plan.num_rounds(); ++q) {
        const Arrivals got =
            d->dispatch(stream, alone.plan, q, alone.x.tensor(), alone.weights.tensor(), alone.arrivals, alone.buffers);
        d->combine(stream, alone.plan, q, alone.copy(got), alone.buffers, alone.result());
      }
      for (int q = 0; q < a.plan.num_rounds(); ++q) {
        const int p = std::min(q, b.plan.num_rounds() - 1);
        Transit to = d->start_dispatch(stream, a.plan, q, a.x.tensor(), a.weights.tensor(), a.arrivals, a.buffers);
        Transit second = d->start_dispatch(stream, b.plan, p, b.x.tensor(), b.weights.tensor(), b.arrivals, b.buffers);
        const Arrivals first = d->finish_dispatch(stream, to);
        Transit back = d->start_combine(stream, a.plan, q, a.copy(first), a.buffers);
        d->finish_dispatch(stream, second);  // one's experts hide the other's dispatch
        d->finish_combine(stream, back, a.result(), {}, {});
      }
      EXPECT_EQ(0, std::memcmp(a.y.data(), alone.y.data(), a.y.size() * sizeof(float)));
      return 0;
    });
}

TEST(DispatchTransfers, TakeNothingFromTheHeapOnceWarm) {
  for (const Way& way : remote_ways()) {
    std::barrier barrier(4);
    const auto taken = run_members(4, [&](Group& group) {
      ThreadPool pool(1);
      const Stream stream(pool);
      Layer l{.tokens = {15, 15, 15, 15}};
      const OwnDispatcher d(way, group, options_of<float>(l, way));
      std::vector<std::unique_ptr<Member>> batches;  // of every kind, the worst one last
      for (unsigned seed = 1; seed <= 5; ++seed) {
        l.seed = seed;
        if (seed == 5) l.choose = [](int, std::int64_t) { return std::vector<std::int32_t>{12, 13, 14, 15}; };
        batches.push_back(std::make_unique<Member>(*d, l, group.rank()));
      }
      const auto step = [&](Member& m) {
        d->plan(stream, m.experts(), m.plan, m.buffers);
        for (int q = 0; q < m.plan.num_rounds(); ++q) {
          const Arrivals a = d->dispatch(stream, m.plan, q, m.x.tensor(), m.weights.tensor(), m.arrivals, m.buffers);
          d->combine(stream, m.plan, q, m.copy(a), m.buffers, m.result(), m.x.tensor());
        }
      };
      // Each batch's plan and transfers have been used once, with an easy routing.
      for (const auto& m : batches) {
        const std::vector<std::int32_t> worst = m->ids;
        m->ids = batches[0]->ids;
        step(*m);
        m->ids = worst;
      }
      barrier.arrive_and_wait();
      if (group.rank() == 0) arm_heap();
      barrier.arrive_and_wait();
      for (const auto& m : batches) step(*m);
      barrier.arrive_and_wait();
      if (group.rank() == 0) disarm_heap();
      barrier.arrive_and_wait();
      return heap_allocations();
    });
    EXPECT_EQ(taken[0], 0) << "method " << static_cast<int>(way.method) << ", nodes of " << way.node_size;
    if (taken[0]) print_heap_allocations();
  }
}

TEST(DispatchTransfers, MemoryIsThatOfTheBound) {
  const Layer l{.tokens = {40, 40, 40, 40}};
  const auto bytes = [&](const Way& way) {
    return run_members(4, [&](Group& group) {
      const OwnDispatcher d(way, group, options_of<float>(l, way));
      std::int64_t rows = 0;
      const auto add = [&](Tensor&, const char* name, const Shape& shape, DType dtype) {
        if (std::string(name).find("rows") != std::string::npos) rows += shape.num_elements() * size_of(dtype);
      };
      DispatchBuffers buffers;
      Arrivals arrivals;
      buffers.fields(d->sizes(), add);
      arrivals.fields(d->sizes(), l.D, DType::f32, DType::f32, add);
      return rows;
    })[0];
  };
  const std::int64_t row = l.D * 4;
  EXPECT_EQ(bytes({DispatchMethod::all_to_all, 1, 50, 10}), (50 + 50) * row);
  EXPECT_EQ(bytes({DispatchMethod::hierarchical, 2, 50, 10}), (50 + 2 * 50) * row);
  EXPECT_EQ(bytes({DispatchMethod::rail, 2, 50, 10}), (50 + 2 * 50) * row);
  EXPECT_EQ(bytes({DispatchMethod::all_to_all}), (160 + 160) * row);
  // No rows are packed; beside them is the window (device_test.cpp).
  EXPECT_EQ(bytes({DispatchMethod::device, 1, 50, 10}), 50 * row);
}

/// Copies of one row on ranks of a group of `size`; what they add up to, with and without an addend.
float summed(int size, const std::vector<std::pair<std::int32_t, float>>& copies, float first) {
  ThreadPool pool(1);
  const Stream stream(pool);
  std::vector<std::int32_t> ranks, rows;
  std::vector<float> packed{NAN};  // a row that nobody wrote
  for (const auto& [rank, value] : copies) {
    rows.push_back(static_cast<std::int32_t>(packed.size()));
    ranks.push_back(rank), packed.push_back(value);
  }
  ranks.push_back(-1), rows.push_back(-1);
  const auto n = static_cast<std::int64_t>(ranks.size()), S = static_cast<std::int64_t>(packed.size());
  const CopyPlaces places{Tensor(ranks.data(), DType::i32, {1, n}), Tensor(rows.data(), DType::i32, {1, n}), size};
  float y = NAN;
  sum_copies(stream, places, Tensor(packed.data(), DType::f32, {S, 1}), Tensor(&y, DType::f32, {1, 1}),
             Tensor(&first, DType::f32, {1, 1}));
  return y;
}

TEST(SumCopies, IsThePerfectTreeOverAllRanks) {
  const float big = 1 << 24;  // + 1 is lost, + 2 is not
  EXPECT_EQ(summed(4, {{0, big}, {1, 1}, {2, 1}}, 0), big);
  EXPECT_EQ(summed(4, {{0, big}, {2, 1}, {3, 1}}, 0), big + 2);
  EXPECT_EQ(summed(8, {{1, big}, {4, 1}, {7, 1}}, 0), big + 2);
  EXPECT_EQ(summed(8, {{1, 1}, {3, 1}, {6, big}}, 0), big + 2);
  EXPECT_EQ(summed(8, {{3, 1}, {4, 1}, {5, big}}, 0), big);
  EXPECT_EQ(summed(2, {{0, big}, {1, 1}}, 1), big) << "the addend comes last";
  EXPECT_EQ(summed(6, {{3, 1}, {4, 1}, {5, big}}, 0), big) << "as a part of eight";
}

TEST(SumCopies, AbsentRanksAreZeros) {
  for (int size : {1, 2, 8})
    EXPECT_FALSE(std::signbit(summed(size, {{0, -0.0f}}, -0.0f))) << "-0 and zeros of " << size << " ranks";
  EXPECT_EQ(summed(8, {{6, 3}}, 0.5f), 3.5f);
}

}  // namespace
}  // namespace fourmi::testing
