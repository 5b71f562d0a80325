// One rank that stops and stays where it is, and what the others say of it.
#pragma once

#include <condition_variable>
#include <mutex>

#include "tests/dispatch/member.h"

namespace fourmi::testing {

/// Ranks that have ended their part, for one that stays where it is until all others have.
class Ended {
 public:
  void add() {
    const std::lock_guard lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  /// Does not wait for ever, so that a test fails instead.
  bool wait_for(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return count_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

inline constexpr std::chrono::milliseconds patience(300);

struct Said {
  std::string text;
  std::chrono::steady_clock::duration after{};
};

/// Rank 2 of so many stops before `stop`: 0 its plan, 1 its dispatch, 2 its combine; and stays there until all others
/// have ended.
inline std::vector<Said> with_one_that_stops(int num_ranks, const Way& way, int stop) {
  const Layer l{.E = 2 * num_ranks, .tokens = std::vector<std::int64_t>(static_cast<std::size_t>(num_ranks), 9)};
  Ended ended;
  return run_members(num_ranks, [&](Group& group) -> Said {
    ThreadPool pool(1);
    const Stream stream(pool);
    DispatchOptions options = options_of<float>(l, way);
    options.patience = patience;
    const OwnDispatcher d(way, group, options);
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
    const auto begin = std::chrono::steady_clock::now();
    const auto said = [&](std::string text) {
      const Said s{std::move(text), std::chrono::steady_clock::now() - begin};
      if (group.rank() != 2)
        ended.add();
      else
        EXPECT_TRUE(ended.wait_for(num_ranks - 1)) << "they waited for rank 2";
      return s;
    };
    const bool stops = group.rank() == 2;
    try {
      if (stops && stop == 0) return said("stopped");
      d->plan(stream, Tensor(ids.data(), DType::i32, {9, l.K}), plan, buffers);
      if (stops && stop == 1) return said("stopped");
      const Arrivals got = d->dispatch(stream, plan, 0, x.tensor(), w.tensor(), arrivals, buffers);
      if (stops && stop == 2) return said("stopped");
      std::vector<float> y(x.x.size());
      d->combine(stream, plan, 0, got.x_UD, buffers, Tensor(y.data(), DType::f32, {9, l.D}));
    } catch (const Error& e) {
      return said(fmt::format("{}: {}", static_cast<int>(e.status()), e.what()));
    }
    return said("went on");
  });
}

}  // namespace fourmi::testing
