// Rows by way of peers' memory, where everybody is late at times: the bits are those of the all-to-all, and who stops
// is named.
#include "parallel/dispatch/device.h"

#include <thread>

#include "kernels/exchange/host_agent.h"
#include "tests/dispatch/member.h"

namespace fourmi::testing {
namespace {

/// Stops now and then: before it looks, before it tells, and in the midst of a copy.
class LateAgent {
 public:
  static constexpr int most_choices = exchange::HostAgent::most_choices;

  explicit LateAgent(std::uint64_t seed) : state_(seed) {}
  std::uint64_t acquire(const std::uint64_t* flag) {
    dawdle();
    return here_.acquire(flag);
  }
  void release(std::uint64_t* flag, std::uint64_t value) {
    dawdle();
    here_.release(flag, value);
  }
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) {
    const std::int64_t half = bytes / 2;
    here_.copy(to, from, half);
    dawdle();
    here_.copy(to + half, from + half, bytes - half);
  }

 private:
  void dawdle() {
    state_ = mix64(state_);
    if (state_ % 16 == 0) std::this_thread::yield();
    if (state_ % 512 == 1) std::this_thread::sleep_for(std::chrono::microseconds(state_ % 200));
  }
  exchange::HostAgent here_;
  std::uint64_t state_;
};

struct Draw {
  std::uint64_t state;
  std::int64_t operator()(std::int64_t below) {
    state = mix64(state);
    return static_cast<std::int64_t>(state % static_cast<std::uint64_t>(below));
  }
};

/// A routing of one of the kinds that have their own troubles: ranks without tokens, all to one rank, one token in all,
/// few ranks a token, several experts of one rank, or nothing special.
Layer draw_layer(Draw& draw) {
  static constexpr int sizes[] = {2, 3, 4, 5, 8, 16};
  const int P = sizes[draw(6)], each = static_cast<int>(1 + draw(4)), E = P * each;
  Layer l{.E = E, .K = std::min<std::int64_t>(E, 1 + draw(6)), .D = 1 + draw(40), .tokens = {}};
  l.seed = static_cast<unsigned>(draw(1 << 30)), l.num_leaves = P;
  const std::int64_t kind = draw(6), most = kind == 2 ? 1 : 1 + draw(24);
  for (int r = 0; r < P; ++r) l.tokens.push_back(kind == 2 ? r == P / 2 : kind == 0 && draw(2) ? 0 : draw(most + 1));
  const std::int64_t K = l.K, one = draw(P), limit = 1 + draw(P);
  const Layer plain = l;
  if (kind == 1 || kind == 4)  // of one rank as many as it has, then of the next one
    l.choose = [=](int, std::int64_t t) {
      std::set<std::int32_t> chosen;
      for (std::int64_t i = 0; static_cast<std::int64_t>(chosen.size()) < K; ++i)
        chosen.insert(static_cast<std::int32_t>(((kind == 1 ? one : t + one) * each + i) % E));
      return std::vector<std::int32_t>(chosen.begin(), chosen.end());
    };
  if (kind == 3 && limit * each >= K)  // at most `limit` ranks
    l.choose = [=](int rank, std::int64_t t) {
      std::set<std::int32_t> chosen;
      for (std::int64_t i = 0; static_cast<std::int64_t>(chosen.size()) < K; ++i)
        chosen.insert(static_cast<std::int32_t>(plain.bits(rank, t, i, 9) % static_cast<std::uint64_t>(limit * each)));
      return std::vector<std::int32_t>(chosen.begin(), chosen.end());
    };
  return l;
}

void expect_routings(std::uint64_t seed, int count) {
  Draw draw{mix64(seed)};
  for (int i = 0; i < count; ++i) {
    const Layer l = draw_layer(draw);
    Way late{.method = DispatchMethod::device,
             .block = l.most_tokens(),  // what make_dispatcher fills in
             .num_channels = static_cast<int>(1 + draw(4)),
             .num_slots = static_cast<int>(2 + draw(7))};
    const std::uint64_t agents = draw.state;
    late.make = [agents](Group& group, const DispatchOptions& options, const Tensor& window) {
      return std::make_unique<DeviceDispatcher<LateAgent>>(
          group, options, window, LateAgent(mix64(agents + static_cast<std::uint64_t>(group.rank()))));
    };
    SCOPED_TRACE(fmt::format("seed {}, routing {}: {} ranks, {} experts, {} choices, {} channels of {} slots", seed, i,
                             l.tokens.size(), l.E, l.K, late.num_channels, late.num_slots));
    const auto plain = on_ranks<float>(l, {DispatchMethod::all_to_all}), got = on_ranks<float>(l, late);
    for (std::size_t r = 0; r < got.size(); ++r) ASSERT_TRUE(got[r] == plain[r]) << "rank " << r;
  }
}

TEST(DeviceDispatch, RandomRoutingsAreThoseOfTheAllToAll) {
  expect_routings(1, 150);
}

class Routings : public ::testing::TestWithParam<int> {};
TEST_P(Routings, AreThoseOfTheAllToAll) {
  expect_routings(static_cast<std::uint64_t>(100 + GetParam()), 1000);
}
INSTANTIATE_TEST_SUITE_P(Long, Routings, ::testing::Range(0, 10));

/// Rank 2 stops before `stop`: 0 its plan, 1 its dispatch, 2 its combine.
std::vector<std::string> with_one_that_stops(int stop) {
  const Layer l{.E = 8, .tokens = {9, 9, 9, 9}};
  return run_members(4, [&](Group& group) -> std::string {
    ThreadPool pool(1);
    const Stream stream(pool);
    DispatchOptions options = options_of<float>(l, {.method = DispatchMethod::device});
    options.patience = std::chrono::milliseconds(300);
    const OwnDispatcher d({.method = DispatchMethod::device}, group, options);
    Rows<float> x = make_rows<float>(l, group.rank(), l.D, of_x),
                w = make_rows<float>(l, group.rank(), l.K, of_weights);
    std::vector<std::int32_t> ids;
    for (std::int64_t t = 0; t < 9; ++t)
      for (std::int32_t e : l.experts(group.rank(), t)) ids.push_back(e);
    Poisoned memory;
    DispatchPlan plan = d->make_plan();
    DispatchBuffers buffers;
    Arrivals arrivals;
    plan.fields(d->sizes(), memory.visitor());
    buffers.fields(d->sizes(), memory.visitor());
    arrivals.fields(d->sizes(), l.D, DType::f32, DType::f32, memory.visitor());
    const bool stops = group.rank() == 2;
    try {
      if (stops && stop == 0) return "stopped";
      d->plan(stream, Tensor(ids.data(), DType::i32, {9, l.K}), plan, buffers);
      if (stops && stop == 1) return "stopped";
      const Arrivals got = d->dispatch(stream, plan, 0, x.tensor(), w.tensor(), arrivals, buffers);
      if (stops && stop == 2) return "stopped";
      std::vector<float> y(x.x.size());
      d->combine(stream, plan, 0, got.x_UD, buffers, Tensor(y.data(), DType::f32, {9, l.D}));
    } catch (const Error& e) {
      return fmt::format("{}: {}", static_cast<int>(e.status()), e.what());
    }
    return "went on";
  });
}

TEST(DeviceDispatch, NamesWhoStopped) {
  for (int stop = 0; stop < 3; ++stop) {
    const std::vector<std::string> said = with_one_that_stops(stop);
    int named = 0;
    for (std::size_t r = 0; r < said.size(); ++r) {
      if (r == 2) continue;
      EXPECT_EQ(said[r].substr(0, 2), "7:") << "stop " << stop << ", rank " << r << ": " << said[r];
      named += said[r].find("rank 2 of ") != std::string::npos;
    }
    EXPECT_EQ(named, 3) << "stop " << stop << ": " << said[0] << " | " << said[1] << " | " << said[3];
  }
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

}  // namespace
}  // namespace fourmi::testing
