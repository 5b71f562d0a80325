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
  ConnectionQueue(std::size_t threads, std::size_t most_waiting) : pool_(threads), most_waiting_(most_waiting) {}

  /// Where too many wait the task runs at once, in the thread that listens: it is then to refuse.
  void enqueue(std::function<void()> task) override {
    if (waiting_ >= most_waiting_) return task();
    ++waiting_;
    pool_.enqueue([this, task = std::move(task)] {
      --waiting_;
      task();
    });
  }
  void shutdown() override { pool_.shutdown(); }

 private:
  httplib::ThreadPool pool_;
  const std::size_t most_waiting_;
  std::atomic<std::size_t> waiting_ = 0;
};

}  // namespace fourmi
