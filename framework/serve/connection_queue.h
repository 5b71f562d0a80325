// Threads for connections, and a bounded number of connections that wait for one: whoever opens thousands takes neither
// the program's descriptors nor its memory.
#pragma once

#include <httplib.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <utility>

namespace fourmi {

class ConnectionQueue final : public httplib::TaskQueue {
 public:
  ConnectionQueue(std::size_t threads, std::size_t most_waiting) : pool_(threads), most_(threads + most_waiting) {}

  /// Where too many are there the task runs at once, in the thread that listens: it is then to refuse. Those that have
  /// a thread count too: a thread that has not woken yet makes nobody wait who need not.
  void enqueue(std::function<void()> task) override {
    if (connections_ >= most_) return task();
    ++connections_;
    pool_.enqueue([this, task = std::move(task)] {
      task();
      --connections_;
    });
  }
  void shutdown() override { pool_.shutdown(); }

 private:
  httplib::ThreadPool pool_;
  const std::size_t most_;
  std::atomic<std::size_t> connections_ = 0;
};

}  // namespace fourmi
