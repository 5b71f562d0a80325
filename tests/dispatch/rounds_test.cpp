// A bound on rows: micro-batches that need more go in rounds, with the same bits and never more than the bound.
#include "parallel/dispatch/rounds.h"

#include <array>

#include "kernels/ops/permute.h"
#include "tests/dispatch/member.h"

namespace fourmi::testing {
namespace {

std::vector<std::pair<Way, int>> bounded_ways(std::int64_t block) {
  std::vector<std::pair<Way, int>> all;
  for (int size : {1, 2, 4, 8})
    for (int node_size : {0, 1, 2, 4})
      if (size > 1 ? node_size == 0 || size % node_size == 0 : node_size == 0)
        all.push_back({{node_size == 0 ? DispatchMethod::all_to_all : DispatchMethod::hierarchical, node_size,
                        size * block, block},
                       size});
  for (int size : {2, 4, 8}) {
    all.push_back({{.method = DispatchMethod::device, .max_rows = size * block, .block = block}, size});
    all.push_back({{.method = DispatchMethod::rail, .node_size = 2, .max_rows = size * block, .block = block}, size});
  }
  return all;
}

TEST(DispatchRounds, SameBitsWithinTheBound) {
  for (auto& [way, size] : bounded_ways(4)) {
    SCOPED_TRACE(fmt::format("{} ranks, nodes of {}", size, way.node_size));
    Layer all_to_one{.E = 16, .K = 2, .tokens = std::vector<std::int64_t>(static_cast<std::size_t>(size), 24)};
    all_to_one.choose = [](int, std::int64_t) { return std::vector<std::int32_t>{0, 1}; };
    const auto got = on_ranks<double>(all_to_one, way);
    expect_exact(all_to_one, got);
    for (const auto& o : got) {
      EXPECT_EQ(o.load.rounds, 6) << "each block by itself";
      EXPECT_LE(o.load.most_in_a_round, way.max_rows);
    }
    EXPECT_EQ(got[0].load.most_in_a_round, way.max_rows);
    EXPECT_EQ(got[0].load.arrived, 24 * size);
    const Layer random{.tokens = std::vector<std::int64_t>(static_cast<std::size_t>(size), 24)};
    const auto some = on_ranks<bfloat16>(random, way);
    expect_exact(random, some);
    for (const auto& o : some) EXPECT_LE(o.load.most_in_a_round, way.max_rows);
  }
}

/// Rows that arrive once may be computed K times: experts' memory has a bound of its own.
TEST(DispatchRounds, ChoicesWithinTheBound) {
  for (auto& [way, size] : bounded_ways(4)) {
    SCOPED_TRACE(fmt::format("{} ranks, nodes of {}", size, way.node_size));
    Way by_choices = way;
    const std::int64_t each = std::min<std::int64_t>(4, 16 / size);
    by_choices.max_rows = 0, by_choices.max_choices = size * 4 * each;
    Layer heavy{.E = 16, .K = 4, .tokens = std::vector<std::int64_t>(static_cast<std::size_t>(size), 24)};
    heavy.choose = [](int, std::int64_t) { return std::vector<std::int32_t>{0, 1, 2, 3}; };
    const auto got = on_ranks<double>(heavy, by_choices);
    expect_exact(heavy, got);
    EXPECT_EQ(got[0].load.rounds, 6);
    EXPECT_EQ(got[0].most_choices, by_choices.max_choices);
    const Layer random{.tokens = std::vector<std::int64_t>(static_cast<std::size_t>(size), 24)};
    const auto some = on_ranks<double>(random, by_choices);
    expect_exact(random, some);
    for (const auto& o : some) EXPECT_LE(o.most_choices, by_choices.max_choices);
  }
}

TEST(DispatchRounds, UnevenRanks) {
  for (int node_size : {0, 1, 2, 4}) {
    const Way way{node_size == 0 ? DispatchMethod::all_to_all : DispatchMethod::hierarchical, std::max(1, node_size),
                  13, 3};
    const Layer l{.tokens = {0, 17, 5, 11}};
    const auto got = on_ranks<double>(l, way);
    expect_exact(l, got);
    EXPECT_GT(got[0].load.rounds, 1);
    for (const auto& o : got) EXPECT_EQ(o.load.rounds, got[0].load.rounds);
  }
}

TEST(DispatchRounds, OneRoundWhereAllFits) {
  const Layer l{.tokens = {12, 12}};
  for (const std::int64_t bound : {std::int64_t{0}, std::int64_t{24}, std::int64_t{1000}})
    for (const auto& o : on_ranks<double>(l, {DispatchMethod::all_to_all, 1, bound, 2})) EXPECT_EQ(o.load.rounds, 1);
}

/// No more rounds than contiguous ranges need, found by trying all cuts.
TEST(DispatchRounds, AreTheFewest) {
  const auto group = make_self_group("self");
  for (unsigned seed = 0; seed < 200; ++seed) {
    BlockLoads loads(2, 6, 1);
    std::int64_t least = 6;
    for (int kind = 0; kind < 2; ++kind)
      for (std::int64_t b = 0; b < 6; ++b)
        loads.load(kind, b) = static_cast<std::int64_t>(mix64(seed * 100 + static_cast<unsigned>(kind * 10 + b)) % 10);
    for (unsigned cuts = 0; cuts < 32; ++cuts) {  // bit i: a cut behind block i
      bool fits = true;
      std::int64_t rounds = 1;
      for (int kind = 0; kind < 2; ++kind) {
        std::int64_t sum = 0;
        for (int b = 0; b < 6; ++b) {
          sum += loads.load(kind, b);
          fits &= sum <= (kind == 0 ? 12 : 15);
          if (cuts >> b & 1) sum = 0;
        }
      }
      for (unsigned c = cuts; c != 0; c &= c - 1) ++rounds;
      if (fits) least = std::min(least, rounds);
    }
    std::vector<std::int64_t> ends;
    loads.choose_rounds(*group, std::array<std::int64_t, 2>{12, 15}, ends);
    EXPECT_EQ(static_cast<std::int64_t>(ends.size()), least);
    EXPECT_EQ(ends.back(), 6);
  }
}

/// The operations that a model uses, at both ends: a bf16 layer on ranks gives one rank's bits.
TEST(DispatchKernels, PermuteAndCombineGiveTheBitsOfOneRank) {
  const std::int64_t M = 21, E = 16, K = 4, D = 40;
  const auto layer = [&](int size, const Way& way) {
    const Layer l{.E = E, .K = K, .D = D, .tokens = std::vector<std::int64_t>(static_cast<std::size_t>(size), M)};
    return run_members(size, [&, l](Group& group) {
      ThreadPool pool(1);
      const Stream stream(pool);
      const auto d = make_dispatcher(way.method, group, options_of<bfloat16>(l, way));
      // The tokens are those of ranks 0 and 1 of a fixed pair, whatever the number of ranks: rank 0's are compared.
      Rows<bfloat16> x = make_rows<bfloat16>(l, group.rank(), D, of_x);
      Rows<float> w = make_rows<float>(l, group.rank(), K, of_weights);
      std::vector<std::int32_t> ids;
      for (std::int64_t t = 0; t < M; ++t)
        for (std::int32_t e : l.experts(group.rank(), t)) ids.push_back(e);
      Poisoned memory;
      DispatchPlan plan = d->make_plan();
      plan.fields(d->sizes(), memory.visitor());
      DispatchBuffers buffers;
      buffers.fields(d->sizes(), memory.visitor());
      Arrivals arrivals;
      arrivals.fields(d->sizes(), D, DType::bf16, DType::f32, memory.visitor());
      d->plan(stream, Tensor(ids.data(), DType::i32, {M, K}), plan, buffers);
      std::vector<bfloat16> y(static_cast<std::size_t>(M * D));
      for (int q = 0; q < plan.num_rounds(); ++q) {
        const Arrivals a = d->dispatch(stream, plan, q, x.tensor(), w.tensor(), arrivals, buffers);
        const std::int64_t U = a.x_UD.dim(0), local = d->num_local();
        std::vector<std::int32_t> offsets(static_cast<std::size_t>(local) + 1), token(static_cast<std::size_t>(U * K)),
            row_of(static_cast<std::size_t>(U * K));
        const Tensor row_token(token.data(), DType::i32, {U * K}), rows_of(row_of.data(), DType::i32, {U, K});
        permute_plan(stream, a.experts_UK, offsets, row_token, rows_of);
        const std::int64_t R = offsets.back();
        std::vector<bfloat16> rows(static_cast<std::size_t>(R * D));
        const Tensor rows_RD(rows.data(), DType::bf16, {R, D});
        permute_forward(stream, a.x_UD, row_token, rows_RD);
        for (std::int64_t e = 0; e < local; ++e)
          for (std::int64_t r = offsets[static_cast<std::size_t>(e)]; r < offsets[static_cast<std::size_t>(e) + 1];
               ++r) {
            const auto out = apply<float>(e + d->first_expert(), &rows[static_cast<std::size_t>(r * D)], D);
            for (std::int64_t i = 0; i < D; ++i)
              rows[static_cast<std::size_t>(r * D + i)] = narrow<bfloat16>(out[static_cast<std::size_t>(i)]);
          }
        std::vector<float> partial(static_cast<std::size_t>(U * D));
        const Tensor partial_UD(partial.data(), DType::f32, {U, D});
        const ExpertLeaves leaves{l.num_leaves / group.size(), local, a.experts_UK};
        combine_forward(stream, rows_RD, a.weights_UK, rows_of, partial_UD, {}, leaves);
        d->combine(stream, plan, q, partial_UD, buffers, Tensor(y.data(), DType::bf16, {M, D}), x.tensor());
      }
      return y;
    })[0];
  };
  const auto one = layer(1, {});
  for (int size : {2, 4, 8})
    for (const Way& way : {Way{}, Way{DispatchMethod::hierarchical, 2}, Way{DispatchMethod::all_to_all, 1, 8 * 5, 5}})
      EXPECT_EQ(0, std::memcmp(layer(size, way).data(), one.data(), one.size() * sizeof(one[0]))) << size << " ranks";
}

}  // namespace
}  // namespace fourmi::testing
