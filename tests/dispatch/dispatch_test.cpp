// Every dispatcher gives every rank what one rank with all experts would compute, to the bit.
#include <bit>

#include "tests/dispatch/member.h"

namespace fourmi::testing {
namespace {

std::vector<Way> ways(int size) {
  std::vector<Way> all{{size == 1 ? DispatchMethod::local : DispatchMethod::all_to_all}};
  for (int node_size : {1, 2, 4, 8})
    for (const DispatchMethod method : {DispatchMethod::hierarchical, DispatchMethod::rail})
      if (size > 1 && size % node_size == 0) all.push_back({method, node_size});
  if (size > 1) {
    all.push_back({DispatchMethod::device});
    all.push_back({.method = DispatchMethod::device, .num_channels = 3, .num_slots = 2});  // each row waits for room
    all.push_back({.method = DispatchMethod::rail, .node_size = 2, .num_channels = 3, .num_slots = 2});
  }
  return all;
}

/// All ways give the brute force's bits, in f64, f32 and bf16; the last way's outcomes in f64.
void expect_all_ways(const Layer& l) {
  for (const Way& way : ways(static_cast<int>(l.tokens.size()))) {
    SCOPED_TRACE(
        fmt::format("{} ranks, method {}, nodes of {}", l.tokens.size(), static_cast<int>(way.method), way.node_size));
    expect_exact(l, on_ranks<double>(l, way));
    expect_exact(l, on_ranks<float>(l, way));
    expect_exact(l, on_ranks<bfloat16>(l, way));
  }
}

TEST(Dispatch, GivesTheBitsOfOneRank) {
  for (int size : {1, 2, 4, 8}) {
    Layer l{.tokens = std::vector<std::int64_t>(static_cast<std::size_t>(size), 19)};
    expect_all_ways(l);
  }
}

TEST(Dispatch, WideRowsOfOddSizes) {
  Layer l{.E = 8, .K = 3, .D = 517, .tokens = {3, 4}};
  expect_all_ways(l);
}

TEST(Dispatch, ManyChoices) {
  Layer l{.E = 16, .K = 16, .D = 3, .tokens = {5, 5, 5, 5}};  // every token visits every expert
  expect_all_ways(l);
  Layer one{.E = 8, .K = 1, .D = 3, .tokens = {9, 9, 9, 9}};
  expect_all_ways(one);
}

TEST(Dispatch, AllTokensToOneExpert) {
  for (std::int32_t expert : {0, 7, 15}) {
    Layer l{.E = 16, .K = 1, .tokens = {12, 12, 12, 12}};
    l.choose = [=](int, std::int64_t) { return std::vector{expert}; };
    expect_all_ways(l);
  }
}

TEST(Dispatch, EmptyRanks) {
  Layer uneven{.tokens = {0, 7, 0, 0, 23, 1, 0, 2}};  // ranks without tokens
  expect_all_ways(uneven);
  Layer nothing{.tokens = {0, 0, 0, 0}};
  expect_all_ways(nothing);
  Layer far{.K = 2, .tokens = {6, 6, 6, 6}};  // ranks that nobody visits, themselves included
  far.choose = [](int rank, std::int64_t) { return std::vector<std::int32_t>{rank < 2 ? 12 : 0, rank < 2 ? 13 : 1}; };
  expect_all_ways(far);
}

std::int64_t distinct(const std::vector<std::int32_t>& experts, std::int64_t each, std::int64_t except) {
  std::set<std::int64_t> ranks;
  for (const std::int32_t e : experts)
    if (e / each != except) ranks.insert(e / each);
  return static_cast<std::int64_t>(ranks.size());
}

TEST(DispatchTraffic, IsTheDeduplicatedMinimum) {
  for (int size : {2, 4, 8})
    for (const Way& way : ways(size)) {
      const Layer l{.tokens = std::vector<std::int64_t>(static_cast<std::size_t>(size), 31)};
      const auto got = on_ranks<bfloat16>(l, way);
      const bool nodes = knows_nodes(way.method);
      const std::int64_t s = nodes ? way.node_size : 1, local = l.E / size;
      std::int64_t across = 0, inside = 0;
      DispatchTraffic forward, all;
      std::int64_t moved = 0;
      for (int r = 0; r < size; ++r) {
        for (std::int64_t t = 0; t < 31; ++t) {
          const auto experts = l.experts(r, t);
          across += distinct(experts, local * s, r / s);
          // In each node the copy arrives at the place r % s, and goes on to the other ranks of that node.
          for (int n = 0; nodes && n < size / s; ++n) {
            std::set<std::int64_t> ranks;
            for (const std::int32_t e : experts)
              if (e / local / s == n && e / local % s != r % s) ranks.insert(e / local);
            inside += static_cast<std::int64_t>(ranks.size());
          }
        }
        const Outcome<bfloat16>& o = got[static_cast<std::size_t>(r)];
        forward.rows_across += o.forward.rows_across, forward.rows_inside += o.forward.rows_inside;
        forward.bytes_across += o.forward.bytes_across, forward.bytes_inside += o.forward.bytes_inside;
        all.bytes_across += o.all.bytes_across, all.bytes_inside += o.all.bytes_inside;
        all.routing_bytes += o.all.routing_bytes;
        moved += o.group_bytes;
      }
      SCOPED_TRACE(fmt::format("{} ranks, nodes of {}", size, nodes ? s : 0));
      EXPECT_GT(across + inside, 0);
      EXPECT_EQ(forward.rows_across, 2 * across) << "dispatch and combine";
      EXPECT_EQ(forward.rows_inside, 2 * inside);
      const std::int64_t row = l.D * 2, sum = l.D * 4, weights = l.K * 4;  // bf16 out, FP32 back
      EXPECT_EQ(forward.bytes_across, across * (row + sum));
      EXPECT_EQ(forward.bytes_inside, inside * (row + sum));
      // Backward: x again (the test keeps nothing), dy; dx and the weights' gradients.
      EXPECT_EQ(all.bytes_across - forward.bytes_across, across * (2 * row + sum + weights));
      EXPECT_EQ(all.bytes_inside - forward.bytes_inside, inside * (2 * row + sum + weights));
      if (!nodes) {
        // Once sent and once received, by the group's own meter: payload, records twice, counts.
        EXPECT_EQ(moved, 2 * (all.bytes_across + all.routing_bytes));
        EXPECT_EQ(all.routing_bytes,
                  2 * across * l.K * 8 +
                      size * (size - 1) * 8 * (way.method == DispatchMethod::device ? way.num_channels : 1));
      }
    }
}

TEST(DispatchTraffic, HierarchicalCrossesANodeOnce) {
  Layer l{.E = 64, .K = 8, .tokens = std::vector<std::int64_t>(8, 20)};
  l.choose = [&](int rank, std::int64_t t) {  // two nodes of four at most: group-limited routing
    std::set<std::int32_t> chosen;
    const std::uint64_t groups = l.bits(rank, t, 0, 3);
    for (std::int64_t i = 0; static_cast<std::int64_t>(chosen.size()) < l.K; ++i)
      chosen.insert(
          static_cast<std::int32_t>((i % 2 == 0 ? groups % 4 : groups / 4 % 4) * 16 + l.bits(rank, t, i, 4) % 16));
    return std::vector<std::int32_t>(chosen.begin(), chosen.end());
  };
  const auto flat = on_ranks<double>(l, {DispatchMethod::all_to_all});
  const auto two = on_ranks<double>(l, {DispatchMethod::hierarchical, 2});
  std::int64_t rows_flat = 0, rows_two = 0;
  for (std::size_t r = 0; r < 8; ++r) {
    EXPECT_TRUE(flat[r] == two[r]);
    EXPECT_LE(two[r].load.most_destinations, 2);
    EXPECT_GT(flat[r].load.most_destinations, 2);
    rows_flat += flat[r].forward.rows_across, rows_two += two[r].forward.rows_across;
  }
  EXPECT_LT(rows_two, rows_flat);
}

TEST(DispatchLoad, CountsWhatArrives) {
  Layer l{.E = 8, .K = 1, .tokens = {10, 6}};
  l.choose = [](int, std::int64_t t) { return std::vector<std::int32_t>{t < 4 ? 0 : 7}; };
  const auto got = on_ranks<double>(l, {});
  EXPECT_EQ(got[0].load.arrived, 8);
  EXPECT_EQ(got[1].load.arrived, 8);
  EXPECT_EQ(got[0].load.tokens, 10);
  EXPECT_EQ(got[1].load.most_arrived, 8);
  EXPECT_EQ(got[1].load.most_in_a_round, 8);
  EXPECT_EQ(got[1].load.rounds, 1);
  EXPECT_EQ(got[1].load.most_destinations, 1);
}

TEST(Dispatch, RefusesWhatDoesNotFit) {
  const auto group = make_self_group("self");
  const DispatchOptions good{.num_experts = 8, .num_choices = 2, .max_tokens = 16, .row_bytes = 64};
  EXPECT_NO_THROW(make_dispatcher(DispatchMethod::local, *group, good));
  run_members(2, [&](Group& g) {
    const auto refused = [&](DispatchMethod method, const std::function<void(DispatchOptions&)>& change,
                             const std::string& part) {
      DispatchOptions o = good;
      change(o);
      try {
        make_dispatcher(method, g, o);
        ADD_FAILURE() << part;
      } catch (const Error& e) {
        EXPECT_EQ(e.status(), ExitStatus::usage);
        EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
      }
    };
    refused(
        DispatchMethod::local, [](auto&) {}, "group of one");
    refused(
        DispatchMethod::all_to_all, [](auto& o) { o.num_experts = 9; }, "9 experts on 2 ranks");
    refused(
        DispatchMethod::hierarchical, [](auto& o) { o.node_size = 3; }, "nodes of 3");
    refused(
        DispatchMethod::hierarchical, [](auto& o) { o.node_size = 4; }, "nodes of 4");
    refused(
        DispatchMethod::all_to_all, [](auto& o) { o.block = 8, o.max_rows = 15; }, "bound of 15");
    refused(
        DispatchMethod::all_to_all, [](auto& o) { o.max_rows = 31; }, "at least 32");
    refused(
        DispatchMethod::all_to_all, [](auto& o) { o.block = 8, o.max_choices = 31; }, "choices computed at a time");
    return 0;
  });
  ThreadPool pool(1);
  const Stream stream(pool);
  const auto d = make_dispatcher(DispatchMethod::local, *group, good);
  DispatchPlan plan = d->make_plan();
  DispatchBuffers buffers;
  for (const auto& [a, b] : {std::pair(1, 1), {3, 2}, {-1, 2}, {2, 8}}) {
    std::vector<std::int32_t> ids{a, b};
    EXPECT_THROW(d->plan(stream, Tensor(ids.data(), DType::i32, {1, 2}), plan, buffers), Error) << a << " " << b;
  }
}

TEST(Dispatch, LocalMovesNothing) {
  const Layer l{.tokens = {6}};
  const auto group = make_self_group("self");
  const auto d = make_dispatcher(DispatchMethod::all_to_all, *group, options_of<float>(l, {}));
  ThreadPool pool(1);
  const Stream stream(pool);
  EXPECT_EQ(d->sizes().max_rows, 0) << "no memory for arrivals";
  DispatchPlan plan = d->make_plan();
  DispatchBuffers none;
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < 6; ++t)
    for (std::int32_t e : l.experts(0, t)) ids.push_back(e);
  Rows<float> x = make_rows<float>(l, 0, l.D, of_x), w = make_rows<float>(l, 0, l.K, of_weights);
  d->plan(stream, Tensor(ids.data(), DType::i32, {6, l.K}), plan, none);
  const Arrivals a = d->dispatch(stream, plan, 0, x.tensor(), w.tensor(), {}, none);
  EXPECT_EQ(a.x_UD.data, x.x.data());
  EXPECT_EQ(a.experts_UK.data, ids.data());
  EXPECT_EQ(a.weights_UK.data, w.x.data());
}

}  // namespace
}  // namespace fourmi::testing
