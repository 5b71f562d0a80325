#include "kernels/runtime/thread_pool.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/runtime/thread.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {

namespace {

thread_local bool inside_a_body = false;  // a nested parallel_for runs inline instead of waiting for itself

/// Waits a little for something that is likely to happen at once, before the caller goes to sleep: waking a thread
/// costs tens of microseconds, on a busy machine milliseconds. A step's parts follow one another within a few
/// microseconds, and the last range of a part takes rarely more than a millisecond.
constexpr std::chrono::microseconds worker_spins{200}, caller_spins{1000};
template <class Ready>
bool spin_until(const Ready& ready, std::chrono::microseconds time) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      _mm_pause();
    }
  } while (Clock::now() < end);
  return ready();
}

}  // namespace

/// One job at a time. A worker takes part only if it arrives while the job is open; the caller closes the job when no
/// range is left and waits for those that take part, never for one that has not woken up.
struct ThreadPool::State {
  // Number of the job times two, plus one while it is open, above 16 bits that count the workers taking part.
  static constexpr std::uint64_t one_worker = 1, open = 1 << 16;
  static std::uint64_t workers(std::uint64_t job) { return job % open; }
  static bool is_open(std::uint64_t job) { return job & open; }
  static std::uint64_t number(std::uint64_t job) { return job / open / 2; }

  std::atomic<std::uint64_t> job{0};
  std::atomic<int> sleeping{0};
  std::atomic<bool> caller_sleeps{false}, stop{false};
  std::mutex mutex, one_caller;
  std::condition_variable wake, done;
  std::vector<std::thread> threads;
  std::vector<WorkingMemory> memories;  // by worker

  void end() {
    {
      std::lock_guard lock(mutex);
      stop = true;
    }
    wake.notify_all();
    for (auto& t : threads) t.join();
  }

  // Of the open job; written while none is open and no worker takes part.
  const RangeBody* body = nullptr;
  std::int64_t n = 0, grain = 1;
  std::atomic<std::int64_t> next{0};
  std::exception_ptr error;  // under the mutex

  /// Ranges get smaller towards the end, so that all threads end at about the same time.
  void work() {
    const auto share = static_cast<std::int64_t>(4 * (threads.size() + 1));
    for (;;) {
      std::int64_t begin = next.load(), size = 0;
      do {
        if (begin >= n) return;
        size = std::max(grain, (n - begin) / share);
      } while (!next.compare_exchange_weak(begin, begin + size));
      try {
        (*body)(begin, std::min(n, begin + size));
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
  }

  bool is_new(std::uint64_t seen) const {
    const std::uint64_t now = job.load();
    return stop.load() || (is_open(now) && number(now) != seen);
  }

  void run_worker(WorkingMemory& memory) {
    WorkingMemory::lend(memory);
    inside_a_body = true;
    std::uint64_t seen = ~std::uint64_t{0};
    for (;;) {
      if (!spin_until([&] { return is_new(seen); }, worker_spins)) {
        std::unique_lock lock(mutex);
        ++sleeping;
        wake.wait(lock, [&] { return is_new(seen); });
        --sleeping;
      }
      if (stop) return;
      std::uint64_t now = job.load();
      if (!is_open(now) || !job.compare_exchange_strong(now, now + one_worker)) continue;
      seen = number(now);
      work();
      if (workers(job.fetch_sub(one_worker)) == 1 && caller_sleeps) {
        std::lock_guard lock(mutex);
        done.notify_one();
      }
    }
  }

  void run_job() {
    job = (number(job) + 1) * 2 * open + open;
    if (sleeping > 0) {
      { std::lock_guard lock(mutex); }
      wake.notify_all();
    }
    work();
    job -= open;  // closed: nobody joins any more
    const auto all_done = [&] { return workers(job) == 0; };
    if (spin_until(all_done, caller_spins)) return;
    std::unique_lock lock(mutex);
    caller_sleeps = true;
    done.wait(lock, all_done);
    caller_sleeps = false;
  }

  /// Between jobs. Which worker took which range is chance; what one needed all get now, not when chance has it.
  void even_out_memory() {
    WorkingMemory& mine = WorkingMemory::mine();
    const auto differs = [&](const WorkingMemory& m) { return m.total_bytes() != mine.total_bytes(); };
    if (std::none_of(memories.begin(), memories.end(), differs)) return;
    for (const WorkingMemory& m : memories) mine.reserve_as(m);
    for (WorkingMemory& m : memories) m.reserve_as(mine);
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  state_->threads.reserve(static_cast<std::size_t>(std::max(num_threads, 1)));
  try {
    state_->memories = std::vector<WorkingMemory>(static_cast<std::size_t>(std::max(0, num_threads - 1)));
    for (WorkingMemory& m : state_->memories)
      state_->threads.push_back(start_thread("thread pool", [s = state_.get(), &m] { s->run_worker(m); }));
  } catch (...) {
    state_->end();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  state_->end();
}

int ThreadPool::num_threads() const {
  return static_cast<int>(state_->threads.size()) + 1;
}

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain, RangeBody body) {
  if (n <= 0) return;
  State& s = *state_;
  if (s.threads.empty() || inside_a_body || n <= grain) {
    body(0, n);
    return;
  }
  std::lock_guard one(s.one_caller);
  s.body = &body;
  s.n = n;
  s.grain = std::max<std::int64_t>(grain, 1);
  s.next = 0;
  s.error = nullptr;
  inside_a_body = true;
  s.run_job();
  inside_a_body = false;
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
  s.even_out_memory();
}

}  // namespace fourmi
