// Memory that ranks which are processes of one host write to: windows, and rows dispatched by way of them. On one rank
// there is nobody to reach.
#include "parallel/peer_memory/peer_memory.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/statvfs.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "kernels/exchange/host_agent.h"
#include "parallel/backoff.h"
#include "parallel/dispatch/device.h"
#include "parallel/peer_memory/segment_names.h"
#include "tests/dispatch/draw_layer.h"
#include "tests/dispatch/member.h"
#include "tests/parallel_mpi/world_of_test.h"

namespace fourmi {
namespace {

using testing::Draw;
using testing::Layer;
using testing::Way;

/// Memory that must stay as it is, since the segment is elsewhere.
Tensor none_of(std::int64_t bytes) {
  return Tensor(nullptr, DType::u8, {bytes});
}

/// All ranks of the world, in a group that a test may poison.
std::unique_ptr<Group> everyone() {
  Group& world = world_of_test()->group();
  std::vector<int> ranks;
  for (int r = 0; r < world.size(); ++r) ranks.push_back(r);
  return world.subgroup("all", ranks);
}

/// Of anybody on this host who makes segments at the same time there may be some for a moment.
bool no_segment_has_a_name() {
  for (int tries = 0; tries < 100; ++tries) {
    bool found = false;
    DIR* const entries = opendir(SegmentName::folder);
    while (const dirent* entry = entries ? readdir(entries) : nullptr)
      found |= std::strncmp(entry->d_name, SegmentName::prefix, std::strlen(SegmentName::prefix)) == 0;
    if (entries) closedir(entries);
    if (!found) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

TEST(Mpi, WindowsAreZeroApartAndWrittenByAll) {
  Group& group = world_of_test()->group();
  const int P = group.size(), me = group.rank();
  constexpr std::int64_t bytes = 100'000, words = bytes / 8;
  alignas(128) static std::uint64_t own[words];
  for (int turn = 0; turn < 3; ++turn) {  // a segment a turn
    std::fill(own, own + words, 7);
    const auto memory = open_peer_memory(group, {.bytes = bytes, .zeroed_bytes = bytes},
                                         P == 1 ? Tensor(own, DType::u8, {bytes}) : none_of(bytes));
    if (P > 1) {
      EXPECT_EQ(memory->reach(), Reach::shared_segment);
      EXPECT_TRUE(no_segment_has_a_name());
    }
    const auto at = [&](int owner) {
      return reinterpret_cast<std::uint64_t*>(memory->bases()[static_cast<std::size_t>(owner)]);
    };
    for (std::int64_t i = 0; i < words; ++i) ASSERT_EQ(at(me)[i], 0u);
    group.barrier();
    // Everybody writes its words into everybody's memory, then the flag that they are there.
    for (int owner = 0; owner < P; ++owner) {
      for (std::int64_t i = P + me; i < words; i += P) at(owner)[i] = static_cast<std::uint64_t>(i * 100 + owner);
      std::atomic_ref(at(owner)[me]).store(1, std::memory_order_release);
    }
    for (int writer = 0; writer < P; ++writer) {
      Backoff backoff;
      while (std::atomic_ref(at(me)[writer]).load(std::memory_order_acquire) != 1) backoff.pause();
      for (std::int64_t i = P + writer; i < words; i += P)
        ASSERT_EQ(at(me)[i], static_cast<std::uint64_t>(i * 100 + me));
    }
  }
}

TEST(Mpi, MemoryThatIsNotThereIsRefusedOnAllRanksAlike) {
  const auto group = everyone();
  if (group->size() == 1) return;
  struct statvfs room {};
  ASSERT_EQ(statvfs(SegmentName::folder, &room), 0);
  const auto all = static_cast<std::int64_t>(room.f_blocks * room.f_frsize);
  try {
    open_peer_memory(*group, {.bytes = all}, none_of(all));
    ADD_FAILURE() << all << " bytes were had by each";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::environment);
    EXPECT_EQ(e.place(), "parallel.dispatcher");
    EXPECT_TRUE(e.cause().starts_with("/dev/shm has ")) << e.cause();
    EXPECT_NE(e.remedy().find("--shm-size"), std::string::npos);
  }
  group->barrier();  // it is as good as before
  EXPECT_TRUE(no_segment_has_a_name());
}

/// Stops now and then: before it looks, before it tells, and in the midst of a copy.
class LateProcess {
 public:
  static constexpr int most_choices = exchange::HostAgent::most_choices;
  explicit LateProcess(std::uint64_t seed) : state_(seed) {}
  std::uint64_t acquire(const std::uint64_t* flag) {
    dawdle();
    return here_.acquire(flag);
  }
  void release(std::uint64_t* flag, std::uint64_t value) {
    dawdle();
    here_.release(flag, value);
  }
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) {
    here_.copy(to, from, bytes / 2);
    dawdle();
    here_.copy(to + bytes / 2, from + bytes / 2, bytes - bytes / 2);
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

TEST(Mpi, RoutingsThroughPeersMemoryAreThoseOfTheAllToAll) {
  Group& group = world_of_test()->group();
  const int P = group.size();
  if (P == 1) return;
  Draw draw{mix64(11)};
  int several_rounds = 0;
  constexpr int count = 16;
  for (int i = 0; i < count; ++i) {
    const Layer l = testing::draw_layer(draw, P);
    Way plain{DispatchMethod::all_to_all}, late{.method = DispatchMethod::device, .block = l.most_tokens()};
    late.num_channels = static_cast<int>(1 + draw(4)), late.num_slots = static_cast<int>(2 + draw(7));
    if (draw(2) == 0) {  // in rounds
      plain.block = late.block = std::min(late.block, 1 + draw(4));
      plain.max_rows = late.max_rows = P * late.block + draw(8);
    }
    if (draw(2) == 0)
      late.make = [&](Group& g, const DispatchOptions& options, const Tensor& window) -> std::unique_ptr<Dispatcher> {
        return std::make_unique<DeviceDispatcher<LateProcess>>(
            g, options, window, LateProcess(mix64(draw.state + static_cast<std::uint64_t>(g.rank()))));
      };
    SCOPED_TRACE(fmt::format("routing {}: {} experts, {} choices, {} channels of {} slots, bound {}", i, l.E, l.K,
                             late.num_channels, late.num_slots, late.max_rows));
    const auto expected = testing::through_dispatcher<float>(group, l, plain),
               got = testing::through_dispatcher<float>(group, l, late);
    ASSERT_TRUE(got == expected);
    several_rounds += got.load.rounds > 1;
  }
  EXPECT_GT(several_rounds, 0);
}

DispatchOptions small_options(int num_ranks) {
  return {.num_experts = 2 * num_ranks, .num_choices = 2, .max_tokens = 8, .row_bytes = 64};
}

/// Plans a micro-batch; what it says when that fails.
std::string plan_on(Group& group, std::chrono::milliseconds patience) {
  DispatchOptions options = small_options(group.size());
  options.patience = patience, options.block = options.max_tokens;
  const testing::OwnDispatcher d({.method = DispatchMethod::device}, group, options);
  ThreadPool pool(1);
  const Stream stream(pool);
  testing::Poisoned memory;
  DispatchPlan plan = d->make_plan();
  DispatchBuffers buffers;
  plan.fields(d->sizes(), memory.visitor());
  buffers.fields(d->sizes(), memory.visitor());
  std::vector<std::int32_t> ids;
  for (std::int32_t t = 0; t < 8; ++t) ids.insert(ids.end(), {0, 2 * group.size() - 1});
  group.barrier();
  if (group.rank() == group.size() - 1) return "stopped";
  try {
    d->plan(stream, Tensor(ids.data(), DType::i32, {8, 2}), plan, buffers);
  } catch (const Error& e) {
    return fmt::format("{}: {}", static_cast<int>(e.status()), e.what());
  }
  return "went on";
}

TEST(Mpi, WhoStopsIsNamed) {
  const auto group = everyone();
  const int P = group->size();
  if (P == 1) return;
  const std::string said = plan_on(*group, std::chrono::milliseconds(300));
  if (group->rank() < P - 1) {
    EXPECT_EQ(said.substr(0, 2), "7:") << said;
    EXPECT_NE(said.find(fmt::format("rank {} of all", P - 1)), std::string::npos) << said;
  }
  world_of_test()->group().barrier();
}

// Without a watchdog: who waits for rows looks for messages meanwhile.
TEST(Mpi, WhoWaitsForRowsHearsOfPoison) {
  const auto group = everyone();
  const int P = group->size();
  if (P == 1) return;
  std::string said;
  if (group->rank() < P - 1) {
    said = plan_on(*group, std::chrono::milliseconds(0));
    EXPECT_NE(said.find("the last rank has had enough"), std::string::npos) << said;
  } else {
    plan_on(*group, std::chrono::milliseconds(0));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    group->cancel("the last rank has had enough");
  }
  world_of_test()->group().barrier();
}

}  // namespace
}  // namespace fourmi
