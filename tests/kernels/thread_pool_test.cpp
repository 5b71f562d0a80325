// The pool: every index once, nothing after the return, errors reach the caller, however early or late workers come.
#include "kernels/runtime/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/runtime/working_memory.h"

namespace fourmi {
namespace {

TEST(ThreadPool, EveryIndexOnceInEveryOfManyJobs) {
  for (int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    std::vector<int> count(1000);
    for (int job = 1; job <= 2000; ++job) {
      const std::int64_t n = job % 1000;
      // Not atomic: a range that two threads took, or a worker that outlives its job, is a wrong count (or a race to
      // tsan).
      pool.parallel_for(n, 1 + job % 7, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) ++count[static_cast<std::size_t>(i)];
      });
      if (job % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));  // workers fall asleep
    }
    // Index i has been in every job whose n is greater.
    for (std::int64_t i = 0; i < 1000; ++i) ASSERT_EQ(count[static_cast<std::size_t>(i)], 2 * (999 - i)) << i;
  }
}

TEST(ThreadPool, WorkIsShared) {
  ThreadPool pool(3);
  std::atomic<int> inside{0}, most{0};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (most < 3 && std::chrono::steady_clock::now() < deadline)
    pool.parallel_for(3, 1, [&](std::int64_t, std::int64_t) {
      const int now = ++inside;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      --inside;
    });
  EXPECT_EQ(most, 3);
}

TEST(ThreadPool, AnErrorReachesTheCallerAndThePoolGoesOn) {
  ThreadPool pool(2);
  for (int i = 0; i < 200; ++i) {
    EXPECT_THROW(pool.parallel_for(64, 1,
                                   [&](std::int64_t begin, std::int64_t) {
                                     if (begin >= 32) throw std::runtime_error("body");
                                   }),
                 std::runtime_error);
    std::atomic<std::int64_t> sum{0};
    pool.parallel_for(64, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
    EXPECT_EQ(sum, 64);
  }
}

TEST(ThreadPool, ACallFromInsideABodyRunsInline) {
  ThreadPool pool(2);
  std::atomic<std::int64_t> sum{0};
  pool.parallel_for(8, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      pool.parallel_for(10, 1, [&](std::int64_t b, std::int64_t e) { sum += e - b; });
  });
  EXPECT_EQ(sum, 80);
}

TEST(ThreadPool, CallersTakeTurns) {
  ThreadPool pool(2);
  std::atomic<std::int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c)
    callers.emplace_back([&] {
      for (int i = 0; i < 300; ++i)
        pool.parallel_for(16, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
    });
  for (std::thread& c : callers) c.join();
  EXPECT_EQ(sum, 3 * 300 * 16);
}

// One thread asks for memory, in ranges of its own choosing; afterwards every thread has as much, wherever it was
// asked.
TEST(ThreadPool, WhatOneThreadNeedsAllGet) {
  std::thread([] {  // whose working memory is new
    ThreadPool pool(3);
    std::int64_t asked = 0;
    for (int job = 1; job <= 200; ++job) {
      std::atomic<bool> taken{false};
      std::atomic<std::size_t> least{~std::size_t{0}};
      pool.parallel_for(12, 1, [&](std::int64_t, std::int64_t) {
        std::size_t bytes = WorkingMemory::mine().total_bytes(), seen = least;
        while (bytes < seen && !least.compare_exchange_weak(seen, bytes)) {
        }
        if (job % 10 == 0 && !taken.exchange(true)) {
          auto* values = WorkingMemory::mine().get<double>(WorkingUse::row, job);
          EXPECT_EQ(reinterpret_cast<std::uintptr_t>(values) % 64, 0u);
          for (int i = 0; i < job; ++i) values[i] = i;
        }
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      });
      EXPECT_GE(least, static_cast<std::size_t>(asked) * sizeof(double)) << job;
      if (job % 10 == 0) asked = job;
    }
  })
      .join();
}

}  // namespace
}  // namespace fourmi
