// A device whose streams do their work later, each on a thread of its own, after a random delay: what is not ordered by
// an event or a wait is seen as wrong bytes or, by ThreadSanitizer, as a race. It has memory and copies; of operations
// the copy alone.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/ops/operations.h"
#include "kernels/runtime/device.h"
#include "kernels/runtime/error.h"
#include "kernels/runtime/memory_ranges.h"

namespace fourmi::test {

/// A point that a stream's thread reaches.
class Reached {
 public:
  void set() {
    const std::scoped_lock lock(mutex_);
    reached_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return reached_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false;
};

class LateStream final : public DeviceStream {
 public:
  using Delay = std::chrono::microseconds;
  /// `delay`: before everything that it does, beside the random one.
  LateStream(DeviceRuntime& runtime, unsigned seed, Delay delay = {})
      : runtime_(&runtime), random_(seed), delay_(delay), thread_([this] { run(); }) {}
  ~LateStream() override {
    {
      const std::scoped_lock lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  /// Any work, behind all that was given before.
  void give(std::function<void()> work) {
    {
      const std::scoped_lock lock(mutex_);
      work_.push_back(std::move(work));
    }
    changed_.notify_all();
  }
  void synchronize() override {
    const auto here = std::make_shared<Reached>();
    give([here] { here->set(); });
    here->wait();
  }
  std::unique_ptr<DeviceEvent> make_event() override;
  DeviceRuntime& runtime() const override { return *runtime_; }
  const Operations& operations() const override {
    static constexpr Operations copy_alone = [] {
      Operations o;
      o.copy.function = [](const Stream& stream, const Tensor& src, const Tensor& dst) {
        stream.device()->copy(dst.data, src.data, src.bytes());
      };
      return o;
    }();
    return copy_alone;
  }
  void copy(void* to, const void* from, std::int64_t bytes) override {
    give([=] { std::memmove(to, from, static_cast<std::size_t>(bytes)); });
  }
  void read(void* host, const void* device, std::int64_t bytes) override {
    copy(host, device, bytes);
    synchronize();
  }
  void write(void* device, const void* host, std::int64_t bytes) override { copy(device, host, bytes); }
  void* native() const override { return const_cast<LateStream*>(this); }

 private:
  void run() {
    for (;;) {
      std::function<void()> next;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return ending_ || !work_.empty(); });
        if (work_.empty()) return;
        next = std::move(work_.front());
        work_.pop_front();
      }
      random_ = random_ * 1664525u + 1013904223u;
      const Delay random(random_ >> 30 == 0 ? random_ >> 20 & 255 : 0);
      if (delay_ + random > Delay(0)) std::this_thread::sleep_for(delay_ + random);
      next();
    }
  }
  DeviceRuntime* runtime_;
  unsigned random_;
  Delay delay_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  bool ending_ = false;
  std::thread thread_;  // last
};

class LateEvent final : public DeviceEvent {
 public:
  void record(DeviceStream& stream) override {
    const auto point = std::make_shared<Reached>();
    {
      const std::scoped_lock lock(mutex_);
      point_ = point;
    }
    static_cast<LateStream&>(stream).give([point] { point->set(); });
  }
  void wait(DeviceStream& stream) override {
    if (const auto point = last()) static_cast<LateStream&>(stream).give([point] { point->wait(); });
  }
  void synchronize() override {
    if (const auto point = last()) point->wait();
  }

 private:
  std::shared_ptr<Reached> last() {
    const std::scoped_lock lock(mutex_);
    return point_;
  }
  std::mutex mutex_;
  std::shared_ptr<Reached> point_;
};

inline std::unique_ptr<DeviceEvent> LateStream::make_event() {
  return std::make_unique<LateEvent>();
}

class LateDevice : public DeviceRuntime {
 public:
  /// `delay`: of the streams that it makes. `name`: in place of a GPU's.
  explicit LateDevice(unsigned seed = 1, LateStream::Delay delay = {}, std::string name = "a late device")
      : seed_(seed), delay_(delay), name_(std::move(name)) {}
  std::string name() const override { return name_; }
  void* allocate(std::int64_t bytes, const std::string&) override {
    void* const p = std::calloc(static_cast<std::size_t>(bytes), 1);
    allocated_.add(p, bytes);
    return p;
  }
  void release(void* memory) noexcept override {
    allocated_.remove(memory);
    std::free(memory);
  }
  bool owns(const void* memory) const override { return allocated_.contains(memory); }
  void* allocate_host(std::int64_t bytes, const std::string&) override {
    return std::calloc(static_cast<std::size_t>(bytes), 1);
  }
  void release_host(void* memory) noexcept override { std::free(memory); }
  void fill(void* memory, int byte, std::int64_t bytes) override {
    std::memset(memory, byte, static_cast<std::size_t>(bytes));
  }
  void write(void* device, const void* host, std::int64_t bytes) override {
    std::memcpy(device, host, static_cast<std::size_t>(bytes));
  }
  void read(void* host, const void* device, std::int64_t bytes) override {
    std::memcpy(host, device, static_cast<std::size_t>(bytes));
  }
  std::unique_ptr<DeviceStream> make_stream() override {
    return std::make_unique<LateStream>(*this, seed_ += 77777, delay_);
  }

 private:
  std::atomic<unsigned> seed_;
  LateStream::Delay delay_;
  std::string name_;

 protected:
  MemoryRanges allocated_;
};

}  // namespace fourmi::test
