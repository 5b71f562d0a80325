#include "kernels/runtime/timeline.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>

#include "kernels/ops/rms_norm.h"

namespace fourmi {
namespace {

void busy(int microseconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  while (std::chrono::steady_clock::now() < until) {
  }
}

std::int64_t of(const Timeline& t, Work work) {
  return t.nanoseconds()[static_cast<std::size_t>(work)];
}
std::int64_t total(const Timeline& t) {
  return std::accumulate(t.nanoseconds().begin(), t.nanoseconds().end(), std::int64_t{0});
}

TEST(Timeline, CountsEachNanosecondOfAStepOnce) {
  Timeline t;
  t.begin_step();
  {
    const Span block(&t, Work::other, "block", 3);
    busy(300);
    {
      const Span norm(&t, Work::norm, "norm");
      busy(500);
    }
    const Span attention(&t, Work::attention, "attention");
    busy(700);
    const Span projections(&t, Work::projections, "projections");
    busy(400);
  }
  t.end_step();
  EXPECT_EQ(total(t), t.step_nanoseconds());
  EXPECT_GE(t.step_nanoseconds(), 1900'000);
  EXPECT_GE(of(t, Work::norm), 500'000);
  EXPECT_GE(of(t, Work::attention), 700'000);
  EXPECT_GE(of(t, Work::projections), 400'000);
  EXPECT_GE(of(t, Work::other), 300'000);
  // The inner span's 400 us are not the outer one's: both together are not more than the step.
  EXPECT_LE(of(t, Work::attention) + of(t, Work::projections), t.step_nanoseconds() - 800'000);
}

TEST(Timeline, ASpanThatOwnsTakesWhatIsInsideIncludingOtherOwners) {
  Timeline t;
  t.begin_step();
  {
    const OwningSpan head(&t, Work::head, "head");
    const Span product(&t, Work::projections, "linear");
    const OwningSpan mlp(&t, Work::feed_forward, "mlp");
    const Span norm(&t, Work::norm, "norm");
    busy(300);
  }
  {
    const Span product(&t, Work::projections, "linear");
    busy(200);
  }
  t.end_step();
  EXPECT_GE(of(t, Work::head), 300'000);
  EXPECT_GE(of(t, Work::projections), 200'000);
  EXPECT_EQ(of(t, Work::norm), 0);
  EXPECT_EQ(of(t, Work::feed_forward), 0);
  EXPECT_EQ(total(t), t.step_nanoseconds());
}

TEST(Timeline, RecordsParentsFirstWithTheLayerOfTheNearestSpanThatHasOne) {
  Timeline t(100);
  t.begin_step(true);
  {
    const Span block(&t, Work::other, "block", 3);
    const Span norm(&t, Work::norm, "norm");
  }
  const bool out = t.open(Work::data, "data", -1, false);
  ASSERT_TRUE(out);
  t.close();
  t.end_step();
  std::vector<SpanRecord> seen;
  t.visit([&](const SpanRecord& r) { seen.push_back(r); });
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_STREQ(seen[0].name, "step");
  EXPECT_STREQ(seen[1].name, "block");
  EXPECT_STREQ(seen[2].name, "norm");
  EXPECT_STREQ(seen[3].name, "data");
  EXPECT_EQ(seen[2].layer, 3);
  EXPECT_EQ(seen[3].layer, -1);
  EXPECT_EQ(seen[2].depth, 2);
  for (std::size_t i = 1; i < seen.size(); ++i) EXPECT_LE(seen[i - 1].begin, seen[i].begin);
  for (const SpanRecord& r : seen) EXPECT_LE(r.begin, r.end);
  EXPECT_LE(seen[2].end, seen[1].end);
  EXPECT_LE(seen[1].end, seen[3].begin);
  t.begin_step(false);
  t.end_step();
  std::size_t kept = 0;
  t.visit([&](const SpanRecord&) { ++kept; });
  EXPECT_EQ(kept, 4u) << "a step that is not recorded keeps the last one that was";
}

TEST(Timeline, AFullRingForgetsTheOldestAndSaysHowMany) {
  Timeline t(8);
  t.begin_step(true);
  for (int i = 0; i < 20; ++i) const Span span(&t, Work::norm, "norm", i);
  t.end_step();
  EXPECT_EQ(t.num_forgotten(), 13u);
  std::vector<std::int32_t> layers;
  t.visit([&](const SpanRecord& r) {
    layers.push_back(r.layer);
    EXPECT_GT(r.end, 0);
  });
  EXPECT_EQ(layers, (std::vector<std::int32_t>{12, 13, 14, 15, 16, 17, 18, 19}));
  EXPECT_EQ(total(t), t.step_nanoseconds());
}

TEST(Timeline, SpansDeeperThanItsStackCountWithTheirParent) {
  Timeline t;
  t.begin_step();
  const std::function<void(int)> dig = [&](int depth) {
    const Span span(&t, Work::norm, "norm");
    if (depth > 0)
      dig(depth - 1);
    else
      busy(200);
  };
  dig(100);
  t.end_step();
  EXPECT_EQ(total(t), t.step_nanoseconds());
  EXPECT_GE(of(t, Work::norm), 200'000);
}

TEST(Timeline, OtherThreadsRecordNothing) {
  Timeline t(10);
  t.begin_step(true);
  std::thread([&] { const Span span(&t, Work::norm, "norm"); }).join();
  t.end_step();
  std::size_t seen = 0;
  t.visit([&](const SpanRecord&) { ++seen; });
  EXPECT_EQ(seen, 1u);
}

TEST(Timeline, AStepThatAnExceptionLeftDoesNotDisturbTheNext) {
  Timeline t;
  t.begin_step();
  try {
    const Span block(&t, Work::other, "block");
    throw 1;
  } catch (int) {
  }
  t.begin_step();
  busy(100);
  t.end_step();
  EXPECT_EQ(total(t), t.step_nanoseconds());
  EXPECT_LT(t.step_nanoseconds(), 100'000'000);
}

TEST(Timeline, OperationsSayTheirKindThroughTheStream) {
  Timeline t(100);
  ThreadPool pool(1);
  const Stream stream(pool, best_isa(), &t);
  std::vector<float> x(64 * 32, 1.0f), w(32, 1.0f), y(64 * 32), rstd(64);
  t.begin_step(true);
  rms_norm_forward(stream, {}, {x.data(), DType::f32, {64, 32}}, {w.data(), DType::f32, {32}},
                   {y.data(), DType::f32, {64, 32}}, {rstd.data(), DType::f32, {64}});
  t.end_step();
  EXPECT_GT(of(t, Work::norm), 0);
  std::vector<std::string> names;
  t.visit([&](const SpanRecord& r) { names.push_back(r.name); });
  EXPECT_EQ(names, (std::vector<std::string>{"step", "rms_norm_forward"}));
}

/// Writes down what it hears.
struct Listener final : SpanObserver {
  std::string heard;
  void opened(Work work, const char* name, std::int32_t layer) override {
    heard += fmt::format("{}:{}:{}(", name_of(work), name, layer);
  }
  void closed() override { heard += ")"; }
};

TEST(Timeline, AnObserverHearsOfEverySpanInOrder) {
  Timeline t;
  Listener listener;
  const Span before(&t, Work::save, "before");  // opened unheard, so it also closes unheard
  t.tell(&listener);
  {
    const Span block(&t, Work::other, "block", 3);
    const OwningSpan head(&t, Work::head, "head");
    const Span product(&t, Work::projections, "linear");
    std::thread([&] { const Span elsewhere(&t, Work::norm, "norm"); }).join();
  }
  EXPECT_EQ(listener.heard, "other:block:3(head:head:3(head:linear:3()))");
  t.tell(nullptr);
  { const Span unheard(&t, Work::norm, "norm"); }
  EXPECT_EQ(listener.heard, "other:block:3(head:head:3(head:linear:3()))");
}

TEST(Timeline, AnObserverHearsTheEndOfAStepThatAnExceptionLeft) {
  Timeline t;
  Listener listener;
  t.tell(&listener);
  t.begin_step();
  try {
    const Span block(&t, Work::norm, "norm");
    throw 1;
  } catch (int) {
  }
  t.begin_step();
  t.end_step();
  EXPECT_EQ(listener.heard, "other:step:-1(norm:norm:-1())other:step:-1()");
}

/// A device that has nothing but a profiler.
struct ProfiledDevice final : DeviceRuntime, DeviceStream {
  Listener listener;
  std::string name() const override { return "profiled"; }
  void* allocate(std::int64_t, const std::string&) override { return nullptr; }
  void release(void*) noexcept override {}
  void* allocate_host(std::int64_t, const std::string&) override { return nullptr; }
  void release_host(void*) noexcept override {}
  void fill(void*, int, std::int64_t) override {}
  void write(void*, const void*, std::int64_t) override {}
  void read(void*, const void*, std::int64_t) override {}
  bool owns(const void*) const override { return false; }
  void copy(void*, const void*, std::int64_t) override {}
  void* native() const override { return nullptr; }
  std::unique_ptr<DeviceStream> make_stream() override { return nullptr; }
  SpanObserver* span_observer() override { return &listener; }
  void synchronize() override {}
  std::unique_ptr<DeviceEvent> make_event() override { return nullptr; }
  DeviceRuntime& runtime() const override { return const_cast<ProfiledDevice&>(*this); }
  const Operations& operations() const override { throw std::logic_error("no operations"); }
};

TEST(Timeline, ItsDevicesProfilerHearsOfTheStreamsSpans) {
  ProfiledDevice device;
  ThreadPool pool(1);
  Timeline t;
  const Stream stream(device, pool, &t);
  t.follow(device);
  { const Span span(stream.timeline(), Work::norm, "norm"); }
  EXPECT_EQ(device.listener.heard, "norm:norm:-1()");
}

TEST(Timeline, EveryKindHasItsOwnName) {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < num_works; ++i) {
    const std::string_view name = name_of(static_cast<Work>(i));
    EXPECT_FALSE(name.empty());
    EXPECT_EQ(std::find(names.begin(), names.end(), name), names.end()) << name;
    names.push_back(name);
  }
  EXPECT_EQ(names.back(), "save");
}

/// A device that is late: what it is given takes 10 ns a point, whenever that is.
class LateClock final : public DeviceClock {
 public:
  explicit LateClock(int& num_reads) : num_reads_(num_reads) {}
  std::int32_t mark() override { return marks_++; }
  const std::vector<std::int64_t>& read() override {
    ++num_reads_;
    times_.clear();
    for (; marks_ > 0; --marks_) times_.push_back(time_ += 10);
    return times_;
  }

 private:
  int& num_reads_;
  std::int32_t marks_ = 0;
  std::int64_t time_ = 1000;
  std::vector<std::int64_t> times_;
};

TEST(Timeline, WithADevicesClockTimesAreTheDevicesAndKnownAtTheStepsEnd) {
  int reads = 0;
  Timeline t(8);
  t.use(std::make_unique<LateClock>(reads));
  {
    const OwningSpan before(&t, Work::evaluate, "evaluate");
    const Span inside(&t, Work::norm, "norm");
  }
  t.begin_step(true);
  {
    const Span outer(&t, Work::attention, "attention", 2);  // 8 points inside the step's two
    const Span norm(&t, Work::norm, "norm");
  }
  { const Span router(&t, Work::router, "router"); }
  EXPECT_EQ(reads, 0) << "the host does not wait in a step";
  t.end_step();
  EXPECT_EQ(reads, 1);
  EXPECT_EQ(t.step_nanoseconds(), 70);
  EXPECT_EQ(total(t), 70);
  EXPECT_EQ(of(t, Work::norm), 10);
  EXPECT_EQ(of(t, Work::attention), 20);
  EXPECT_EQ(of(t, Work::router), 10);
  EXPECT_EQ(of(t, Work::evaluate), 0) << "was between the steps";
  EXPECT_EQ(t.total()[static_cast<std::size_t>(Work::evaluate)], 30);
  std::vector<std::string> seen;
  t.visit([&](const SpanRecord& r) {
    seen.push_back(std::string(r.name) + " " + std::to_string(r.begin - 1050) + " " + std::to_string(r.end - 1050));
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"step 0 70", "attention 10 40", "norm 20 30", "router 50 60"}));
  { const OwningSpan save(&t, Work::save, "save"); }
  EXPECT_EQ(t.total()[static_cast<std::size_t>(Work::save)], 10) << "the end of a run asks";
}

}  // namespace
}  // namespace fourmi
