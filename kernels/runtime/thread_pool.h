// One thread pool a process, carried by the Stream. Work is cut into ranges that depend on nothing but the range itself:
// an operation may never let a sum's order depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace fourmi {

class ThreadPool {
 public:
  /// `num_threads` counts the caller: 1 starts no thread.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;
  /// Runs body(begin, end) over [0, n) in chunks of at least `grain`; returns when all are done. Exceptions of a body are
  /// rethrown here. Called from inside a body it runs inline.
  void parallel_for(std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fourmi
