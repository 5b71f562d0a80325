#include "kernels/runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace fourmi {

struct ThreadPool::State {
  std::mutex mutex, one_caller;
  std::condition_variable wake, done;
  std::vector<std::thread> threads;
  const std::function<void(std::int64_t, std::int64_t)>* body = nullptr;
  std::int64_t n = 0, chunk = 1;
  std::atomic<std::int64_t> next{0};
  std::uint64_t generation = 0;
  int running = 0;
  bool stop = false;
  std::exception_ptr error;

  void work() {
    for (;;) {
      const std::int64_t begin = next.fetch_add(chunk);
      if (begin >= n) return;
      try {
        (*body)(begin, std::min(n, begin + chunk));
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
  }
};

namespace {
thread_local bool inside_a_body = false;  // a nested parallel_for runs inline instead of waiting for itself
}

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  for (int i = 1; i < num_threads; ++i)
    state_->threads.emplace_back([s = state_.get()] {
      inside_a_body = true;
      std::uint64_t seen = 0;
      std::unique_lock lock(s->mutex);
      for (;;) {
        s->wake.wait(lock, [&] { return s->stop || s->generation != seen; });
        if (s->stop) return;
        seen = s->generation;
        lock.unlock();
        s->work();
        lock.lock();
        if (--s->running == 0) s->done.notify_one();
      }
    });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  for (auto& t : state_->threads) t.join();
}

int ThreadPool::num_threads() const { return static_cast<int>(state_->threads.size()) + 1; }

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain,
                              const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (n <= 0) return;
  State& s = *state_;
  if (s.threads.empty() || inside_a_body || n <= grain) {
    body(0, n);
    return;
  }
  std::lock_guard one(s.one_caller);
  {
    std::lock_guard lock(s.mutex);
    s.body = &body;
    s.n = n;
    s.chunk = std::max<std::int64_t>(grain, (n + 4 * num_threads() - 1) / (4 * num_threads()));
    s.next = 0;
    s.running = static_cast<int>(s.threads.size());
    s.error = nullptr;
    ++s.generation;
  }
  s.wake.notify_all();
  inside_a_body = true;
  s.work();
  inside_a_body = false;
  std::unique_lock lock(s.mutex);
  s.done.wait(lock, [&] { return s.running == 0; });
  if (s.error) std::rethrow_exception(s.error);
}

}  // namespace fourmi
