// One thread pool a process, carried by the Stream. Work is cut into ranges that depend on nothing but the range
// itself: an operation may never let a sum's order depend on the number of threads.
#pragma once

#include <cstdint>
#include <memory>

namespace fourmi {

/// A reference to a body(begin, end), which must live until the call that takes it returns. Not std::function: that
/// allocates.
class RangeBody {
 public:
  template <class Body>
  RangeBody(const Body& body)  // NOLINT: implicit, as a lambda is written in the call
      : body_(&body),
        call_([](const void* b, std::int64_t begin, std::int64_t end) { (*static_cast<const Body*>(b))(begin, end); }) {
  }
  void operator()(std::int64_t begin, std::int64_t end) const { call_(body_, begin, end); }

 private:
  const void* body_;
  void (*call_)(const void*, std::int64_t, std::int64_t);
};

class ThreadPool {
 public:
  /// `num_threads` counts the caller: 1 starts no thread.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;
  /// Runs body(begin, end) over [0, n) in chunks of at least `grain`; returns when all are done. Exceptions of a body
  /// are rethrown here. Called from inside a body it runs inline.
  void parallel_for(std::int64_t n, std::int64_t grain, RangeBody body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fourmi
