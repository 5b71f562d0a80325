// Between nodes by the group, inside by peers' memory: with late ranks the bits are those of the all-to-all, rings and
// windows hold what they may, and who stops is named.
#include "parallel/dispatch/rail.h"

#include "tests/dispatch/draw_layer.h"
#include "tests/dispatch/late_agent.h"
#include "tests/dispatch/stopped_rank.h"

namespace fourmi::testing {
namespace {

struct Nodes {
  int count, size;
};
constexpr Nodes some_nodes[] = {{2, 2}, {2, 4}, {4, 2}, {4, 4}, {3, 2}, {4, 1}, {1, 4}};

/// What the ranks of each node write into its windows.
using Watches = std::vector<std::unique_ptr<Watch>>;

Way late_way(const Layer& l, const Nodes& nodes, std::uint64_t agents, Watches& watches) {
  Way late{.method = DispatchMethod::rail, .node_size = nodes.size, .block = l.most_tokens()};
  late.make = [=, &watches](Group& group, const DispatchOptions& options, const Tensor& window) {
    const int place = group.rank() % nodes.size;
    Watch& watch = *watches[static_cast<std::size_t>(group.rank() / nodes.size)];
    watch.open(place, rail_window(group.size(), options), window);
    return std::make_unique<RailDispatcher<LateAgent>>(
        group, options, window, LateAgent(mix64(agents + static_cast<std::uint64_t>(group.rank())), place, watch));
  };
  return late;
}

/// Forward and backward: y, dx and the weights' gradients of every rank.
void expect_routings(std::uint64_t seed, int count) {
  Draw draw{mix64(seed)};
  int full = 0, several_rounds = 0;
  for (int i = 0; i < count; ++i) {
    const Nodes nodes = some_nodes[i % std::size(some_nodes)];
    const int P = nodes.count * nodes.size;
    const Layer l = draw_layer(draw, P);
    Watches watches;
    for (int n = 0; n < nodes.count; ++n) watches.push_back(std::make_unique<Watch>(nodes.size));
    Way late = late_way(l, nodes, draw.state, watches), plain{DispatchMethod::all_to_all};
    late.num_channels = static_cast<int>(1 + draw(4)), late.num_slots = static_cast<int>(2 + draw(4));
    if (draw(3) == 0) {  // in rounds
      plain.block = late.block = std::min(late.block, 1 + draw(4));
      plain.max_rows = late.max_rows = P * late.block + draw(8);
    }
    SCOPED_TRACE(
        fmt::format("seed {}, routing {}: {} nodes of {}, {} experts, {} choices, {} chunks, {} slots, bound {}", seed,
                    i, nodes.count, nodes.size, l.E, l.K, late.num_channels, late.num_slots, late.max_rows));
    const auto expected = on_ranks<float>(l, plain), got = on_ranks<float>(l, late);
    for (std::size_t r = 0; r < got.size(); ++r) ASSERT_TRUE(got[r] == expected[r]) << "rank " << r;
    bool any_full = false;
    for (const auto& watch : watches) {
      ASSERT_EQ(watch->outside(), 0);
      ASSERT_LE(watch->most_under_way(), late.num_slots);
      any_full |= watch->most_under_way() == late.num_slots;
    }
    full += any_full;
    several_rounds += got[0].load.rounds > 1;
  }
  EXPECT_GT(full, count / 8) << "rings were hardly ever full: this shows little";
  EXPECT_GT(several_rounds, count / 10);
}

TEST(RailDispatch, RandomRoutingsAreThoseOfTheAllToAll) {
  expect_routings(1, 70);
}

class RailRoutings : public ::testing::TestWithParam<int> {};
TEST_P(RailRoutings, AreThoseOfTheAllToAll) {
  expect_routings(static_cast<std::uint64_t>(100 + GetParam()), 1000);
}
INSTANTIATE_TEST_SUITE_P(Long, RailRoutings, ::testing::Range(0, 10));

TEST(RailDispatch, NamesWhoStopped) {
  for (const Nodes& nodes : {Nodes{2, 2}, Nodes{4, 2}, Nodes{2, 4}})
    for (int stop = 0; stop < 3; ++stop) {
      const int P = nodes.count * nodes.size;
      const std::vector<Said> said =
          with_one_that_stops(P, {.method = DispatchMethod::rail, .node_size = nodes.size}, stop);
      for (std::size_t r = 0; r < said.size(); ++r) {
        if (r == 2) continue;
        SCOPED_TRACE(fmt::format("{} nodes of {}, stop {}, rank {}", nodes.count, nodes.size, stop, r));
        EXPECT_EQ(said[r].text.substr(0, 2), "7:") << said[r].text;
        EXPECT_NE(said[r].text.find("rank 2 of "), std::string::npos) << said[r].text;
        EXPECT_LT(said[r].after, 10 * patience) << "on a machine that is not overloaded";
      }
    }
}

// Of ranks that other nodes keep waiting, none is taken for the one that stopped.
TEST(RailDispatch, ARankThatWaitsForOtherNodesSaysSo) {
  std::vector<std::byte> memory[2];
  std::byte* base[2];
  const DispatchOptions options{.num_experts = 4, .num_choices = 1, .max_tokens = 4, .row_bytes = 16, .node_size = 2};
  const exchange::Window window = rail_window(4, options);
  for (int i = 0; i < 2; ++i) {
    memory[i].resize(static_cast<std::size_t>(window.bytes() + exchange::Window::alignment));
    void* at = memory[i].data();
    std::size_t space = memory[i].size();
    base[i] = static_cast<std::byte*>(
        std::align(exchange::Window::alignment, static_cast<std::size_t>(window.bytes()), at, space));
  }
  exchange::HostAgent agent;
  RailWords<exchange::HostAgent> mine({base, window, 0}), theirs({base, window, 1});
  EXPECT_FALSE(mine.waits(agent, 1));
  EXPECT_FALSE(mine.changed(agent));
  theirs.tell(agent);
  EXPECT_TRUE(mine.waits(agent, 1));
  EXPECT_TRUE(mine.changed(agent));
  EXPECT_FALSE(mine.changed(agent));
  theirs.tell(agent);
  EXPECT_FALSE(mine.waits(agent, 1));
  EXPECT_TRUE(mine.changed(agent)) << "who came back has not been silent";
}

// The same rings as without nodes, fewer counts, and what is staged for the first hop.
TEST(RailDispatch, MemoryIsWhatTheFormulaSays) {
  DispatchOptions options{.num_experts = 64, .num_choices = 6, .max_tokens = 4096, .row_bytes = 1000, .node_size = 8};
  options.num_channels = 3, options.num_slots = 5;
  const auto line = [](std::int64_t bytes) { return (bytes + 127) / 128 * 128; };
  for (const std::int64_t nodes : {1, 2, 8}) {
    const std::int64_t P = 8 * nodes, C = 3 * nodes, S = 5, row = 1008, record = 48;
    const std::int64_t rings = 128 * 4 * 8 * C + 8 * C * (line(S * (row + record)) + line(S * row));
    EXPECT_EQ(rail_window(static_cast<int>(P), options).bytes(), 2 * 8 * line(8 * (C + 1)) + rings);
    const DispatchSizes sizes = dispatch_sizes(DispatchMethod::rail, static_cast<int>(P), options);
    EXPECT_EQ(sizes.window_bytes, rail_window(static_cast<int>(P), options).bytes());
    EXPECT_EQ(sizes.staging_rows, P * 4096);
    EXPECT_EQ(sizes.max_forwards, nodes * 4096);
  }
}

}  // namespace
}  // namespace fourmi::testing
