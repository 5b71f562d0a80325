// Rows by way of peers' memory, where everybody is late at times: the bits are those of the all-to-all, and who stops
// is named.
#include "parallel/dispatch/device.h"

#include "tests/dispatch/draw_layer.h"
#include "tests/dispatch/late_agent.h"
#include "tests/dispatch/stopped_rank.h"

namespace fourmi::testing {
namespace {

/// A layer's way on late ranks; what they wrote is seen by the watch, which outlives it.
Way late_way(const Layer& l, std::uint64_t agents, Watch& watch) {
  Way late{.method = DispatchMethod::device, .block = l.most_tokens()};  // what make_dispatcher fills in
  late.make = [agents, &watch](Group& group, const DispatchOptions& options, const Tensor& window) {
    watch.open(group.rank(), device_window(group.size(), options), window);
    return std::make_unique<DeviceDispatcher<LateAgent>>(
        group, options, window,
        LateAgent(mix64(agents + static_cast<std::uint64_t>(group.rank())), group.rank(), watch));
  };
  return late;
}

/// Forward and backward: y, dx and the weights' gradients of every rank.
void expect_routings(std::uint64_t seed, int count) {
  Draw draw{mix64(seed)};
  int full = 0, several_rounds = 0;
  for (int i = 0; i < count; ++i) {
    static constexpr int sizes[] = {2, 3, 4, 5, 8, 16};
    const Layer l = draw_layer(draw, sizes[draw(6)]);
    const auto P = static_cast<std::int64_t>(l.tokens.size());
    Watch watch(static_cast<int>(P));
    Way late = late_way(l, draw.state, watch), plain{DispatchMethod::all_to_all};
    late.num_channels = static_cast<int>(1 + draw(4)), late.num_slots = static_cast<int>(2 + draw(7));
    if (draw(3) == 0) {  // in rounds
      plain.block = late.block = std::min(late.block, 1 + draw(4));
      plain.max_rows = late.max_rows = P * late.block + draw(8);
    }
    SCOPED_TRACE(fmt::format("seed {}, routing {}: {} ranks, {} experts, {} choices, {} channels of {} slots, bound {}",
                             seed, i, P, l.E, l.K, late.num_channels, late.num_slots, late.max_rows));
    const auto expected = on_ranks<float>(l, plain), got = on_ranks<float>(l, late);
    for (std::size_t r = 0; r < got.size(); ++r) ASSERT_TRUE(got[r] == expected[r]) << "rank " << r;
    ASSERT_EQ(watch.outside(), 0);
    ASSERT_LE(watch.most_under_way(), late.num_slots);
    full += watch.most_under_way() == late.num_slots;
    several_rounds += got[0].load.rounds > 1;
  }
  EXPECT_GT(full, count / 8) << "rings were hardly ever full: this shows little";
  EXPECT_GT(several_rounds, count / 10);
}

TEST(DeviceDispatch, RandomRoutingsAreThoseOfTheAllToAll) {
  expect_routings(1, 150);
}

class Routings : public ::testing::TestWithParam<int> {};
TEST_P(Routings, AreThoseOfTheAllToAll) {
  expect_routings(static_cast<std::uint64_t>(100 + GetParam()), 1000);
}
INSTANTIATE_TEST_SUITE_P(Long, Routings, ::testing::Range(0, 10));

TEST(DeviceDispatch, NamesWhoStopped) {
  for (int stop = 0; stop < 3; ++stop) {
    const std::vector<Said> said = with_one_that_stops(4, {.method = DispatchMethod::device}, stop);
    for (std::size_t r = 0; r < said.size(); ++r) {
      if (r == 2) continue;
      EXPECT_EQ(said[r].text.substr(0, 2), "7:") << "stop " << stop << ", rank " << r << ": " << said[r].text;
      EXPECT_NE(said[r].text.find("rank 2 of "), std::string::npos) << "stop " << stop << ": " << said[r].text;
      EXPECT_LT(said[r].after, 10 * patience) << "stop " << stop << ", on a machine that is not overloaded";
    }
  }
}

// What may be written to is there until all ranks have left, so who leaves in an exception must end whatever the others
// wait in, of whichever group.
TEST(DeviceDispatch, WhoLeavesInAnExceptionEndsTheWaitsOfAll) {
  const DispatchOptions options{.num_experts = 4, .num_choices = 1, .max_tokens = 4, .row_bytes = 16};
  const auto ends = run_members(3, [&](Group& world) -> std::string {
    const int rank = world.rank();
    const int pair[] = {0, 1};
    const auto group = rank < 2 ? world.subgroup("pair", pair) : nullptr;
    std::byte got[8];
    try {
      if (rank == 2) world.start_receive(got, 0, 1).wait();  // rank 0 never sends
      const OwnDispatcher d({.method = DispatchMethod::device}, *group, options);
      if (rank == 0) throw Error(ExitStatus::input, "a test", "found a fault", "None");
      world.start_receive(got, 2, 1).wait();
    } catch (const Error& e) {
      return e.place();
    }
    return "went on";
  });
  EXPECT_EQ(ends[0], "a test");
  EXPECT_TRUE(ends[1] == "group threads" || ends[1] == "group pair")
      << ends[1] << ": it may still be making its windows";
  EXPECT_EQ(ends[2], "group threads");
}

TEST(DeviceDispatch, AWindowEndsWithItsLastRing) {
  const DispatchOptions options{.num_experts = 4, .num_choices = 1, .max_tokens = 4, .row_bytes = 16};
  const exchange::Window window = device_window(4, options);
  EXPECT_EQ(window.bytes() % exchange::Window::alignment, 0);
  EXPECT_LE(window.zeroed_bytes(), window.slots(exchange::Way::dispatch, 0, 0));
  EXPECT_EQ(window.slots(exchange::Way::combine, 3, 1) +
                (window.slots(exchange::Way::combine, 0, 1) - window.slots(exchange::Way::combine, 0, 0)),
            window.bytes());
}

TEST(DeviceDispatch, AWindowTakesWhatTheFormulaSays) {
  DispatchOptions options{.num_experts = 64, .num_choices = 6, .max_tokens = 4096, .row_bytes = 1000};
  options.num_channels = 3, options.num_slots = 5;
  const auto line = [](std::int64_t bytes) { return (bytes + 127) / 128 * 128; };
  const auto formula = [&](std::int64_t P, std::int64_t rounds) {
    const std::int64_t C = 3, S = 5, row = 1008, record = 48;  // in sixteens
    return 2 * P * line(8 * rounds * C) + 128 * 4 * P * C + P * C * (line(S * (row + record)) + line(S * row));
  };
  for (int P : {2, 8, 64}) {
    options.max_rows = options.block = 0;
    EXPECT_EQ(device_window(P, options).bytes(), formula(P, 1));
    options.max_tokens = 8192;  // tokens cost nothing
    EXPECT_EQ(dispatch_sizes(DispatchMethod::device, P, options).window_bytes, formula(P, 1));
    options.block = 256, options.max_rows = P * 256;
    EXPECT_EQ(dispatch_sizes(DispatchMethod::device, P, options).window_bytes, formula(P, 8192 / 256));
  }
}

}  // namespace
}  // namespace fourmi::testing
