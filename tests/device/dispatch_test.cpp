// Rows to experts and back by kernels of ranks that are threads and share a card: the dispatchers' test layer
// (tests/dispatch), whose every number is held against brute force, to the bit.
#include <gtest/gtest.h>

#include <barrier>

#include "tests/device/through_card.h"

namespace fourmi::testing {
namespace {

Way by_kernels(const Way& way = {}) {
  Way w = way;
  w.method = DispatchMethod::device;
  w.make = [](Group& group, const DispatchOptions& options, const Tensor&) -> std::unique_ptr<Dispatcher> {
    DispatchOptions o = options;
    if (o.block == 0) o.block = o.max_tokens;
    return std::make_unique<ThroughCard>(group, o);
  };
  return w;
}

TEST(CardDispatch, SumsAreExact) {
  for (const std::size_t ranks : {2, 4}) {
    const Layer l{.E = 16, .K = 4, .D = 24, .tokens = std::vector<std::int64_t>(ranks, 21)};
    expect_exact<float>(l, on_ranks<float>(l, by_kernels()));
    expect_exact<bfloat16>(l, on_ranks<bfloat16>(l, by_kernels({.num_channels = 3, .num_slots = 2})));
  }
}

TEST(CardDispatch, RanksWithoutTokensTakePart) {
  const Layer l{.E = 8, .K = 2, .D = 5, .tokens = {0, 13, 1, 0}};
  expect_exact<double>(l, on_ranks<double>(l, by_kernels()));
}

// As many rows as one block of every rank brings at most: every block may be a round of its own.
TEST(CardDispatch, ABoundIsKeptInRounds) {
  const Layer l{.E = 8, .K = 3, .D = 8, .tokens = {16, 16}, .choose = [](int, std::int64_t t) {
                  return t < 8 ? std::vector<std::int32_t>{0, 1, 2} : std::vector<std::int32_t>{1, 4, 6};
                }};
  const auto got = on_ranks<float>(l, by_kernels({.max_rows = 8, .block = 4}));
  expect_exact<float>(l, got);
  for (const auto& rank : got) {
    EXPECT_GT(rank.load.rounds, 1);
    EXPECT_LE(rank.load.most_in_a_round, 8);
  }
}

TEST(CardDispatch, TrafficIsThatOfTheCpus) {
  const Layer l{.E = 16, .K = 4, .D = 24, .tokens = {9, 17, 3, 11}};
  const auto card = on_ranks<float>(l, by_kernels()), cpu = on_ranks<float>(l, {.method = DispatchMethod::device});
  for (std::size_t r = 0; r < card.size(); ++r) {
    EXPECT_GT(card[r].all.bytes_across, 0);
    EXPECT_EQ(card[r].all.rows_across, cpu[r].all.rows_across);
    EXPECT_EQ(card[r].all.bytes_across, cpu[r].all.bytes_across);
    EXPECT_EQ(card[r].all.routing_bytes, cpu[r].all.routing_bytes);
    EXPECT_EQ(card[r].group_bytes, cpu[r].group_bytes);
    EXPECT_EQ(card[r].load.arrived, cpu[r].load.arrived);
  }
}

/// What ranks say of rank 2, which stops before `stop` (0 its plan, 1 its dispatch, 2 its combine) until all others
/// have ended.
std::vector<std::string> with_one_that_stops(int stop) {
  const Layer l{.E = 8, .tokens = {9, 9, 9, 9}};
  std::barrier<> ended(4);
  return run_members(4, [&](Group& group) -> std::string {
    ThreadPool pool(1);
    const Stream stream(pool);
    DispatchOptions options = options_of<float>(l, by_kernels());
    options.patience = std::chrono::milliseconds(1500), options.block = options.max_tokens;
    ThroughCard d(group, options);
    Rows<float> x = make_rows<float>(l, group.rank(), l.D, of_x),
                w = make_rows<float>(l, group.rank(), l.K, of_weights);
    std::vector<std::int32_t> ids;
    for (std::int64_t t = 0; t < 9; ++t)
      for (std::int32_t e : l.experts(group.rank(), t)) ids.push_back(e);
    Poisoned memory;
    DispatchPlan plan = d.make_plan();
    DispatchBuffers buffers;
    Arrivals arrivals;
    arrivals.fields(d.sizes(), l.D, DType::f32, DType::f32, memory.visitor());
    const auto stops = [&](int at) { return group.rank() == 2 && stop == at; };
    std::string said;
    try {
      if (stops(0)) throw std::runtime_error("stops");
      d.plan(stream, Tensor(ids.data(), DType::i32, {9, l.K}), plan, buffers);
      if (stops(1)) throw std::runtime_error("stops");
      const Arrivals a = d.dispatch(stream, plan, 0, x.tensor(), w.tensor(), arrivals, buffers);
      if (stops(2)) throw std::runtime_error("stops");
      std::vector<float> partial(static_cast<std::size_t>(a.x_UD.dim(0) * l.D)), y(static_cast<std::size_t>(9 * l.D));
      d.combine(stream, plan, 0, Tensor(partial.data(), DType::f32, {a.x_UD.dim(0), l.D}), buffers,
                Tensor(y.data(), DType::f32, {9, l.D}));
    } catch (const Error& e) {
      said = fmt::format("{}: {}", static_cast<int>(e.status()), e.what());
    } catch (const std::runtime_error& e) {
      said = e.what();
    }
    ended.arrive_and_wait();
    return said;
  });
}

TEST(CardDispatch, NamesWhoStopped) {
  for (int stop = 0; stop < 3; ++stop) {
    const std::vector<std::string> said = with_one_that_stops(stop);
    EXPECT_EQ(said[2], "stops");
    for (const std::size_t rank : {0, 1, 3}) {
      EXPECT_EQ(said[rank].substr(0, 3), "7: ") << "stop " << stop << ", rank " << rank << ": " << said[rank];
      EXPECT_NE(said[rank].find("rank 2 of 4 has"), std::string::npos) << stop << ": " << said[rank];
    }
  }
}

}  // namespace
}  // namespace fourmi::testing
