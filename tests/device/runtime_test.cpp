// What a GPU's runtime promises of memory: what is done once, by allocate, fill and write, is done when the call
// returns, for streams that know nothing of it too.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "kernels/runtime/cuda_devices.h"
#include "kernels/runtime/device.h"

namespace fourmi {
namespace {

constexpr std::int64_t size = 1 << 20;

/// Device memory as long as the test.
struct Memory {
  explicit Memory(DeviceRuntime& r) : runtime(r), data(r.allocate(size, "a test")) {}
  ~Memory() { runtime.release(data); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  DeviceRuntime& runtime;
  void* data;
};

class CudaRuntime : public testing::Test {
 protected:
  void SetUp() override {  // not in a constructor: that runs also where all tests are skipped
    runtime_ = open_cuda_device(0);
    stream_ = runtime_->make_stream();
  }
  /// Is all of it this byte?
  void expect(const Memory& memory, int byte) {
    stream_->synchronize();
    std::vector<std::byte> all(size);
    runtime_->read(all.data(), memory.data, size);
    EXPECT_EQ(std::count(all.begin(), all.end(), static_cast<std::byte>(byte)), size);
  }
  std::unique_ptr<DeviceRuntime> runtime_;
  std::unique_ptr<DeviceStream> stream_;
};

TEST_F(CudaRuntime, MemoryIsZeroBeforeAStreamWritesToIt) {
  const Memory from(*runtime_);
  runtime_->fill(from.data, 7, size);
  const Memory to(*runtime_);
  stream_->copy(to.data, from.data, size);
  expect(to, 7);
  const Memory next(*runtime_);
  stream_->copy(from.data, next.data, size);
  expect(from, 0);
}

TEST_F(CudaRuntime, WhatTheHostWroteIsThereForEveryStream) {
  const Memory from(*runtime_), to(*runtime_);
  const std::vector<std::byte> host(size, std::byte{9});
  runtime_->write(from.data, host.data(), size);
  stream_->copy(to.data, from.data, size);
  expect(to, 9);
}

/// A queue for each stream of a rank; a user's own choice stays.
TEST_F(CudaRuntime, StreamsDoNotShareQueues) {
  const char* const queues = std::getenv("CUDA_DEVICE_MAX_CONNECTIONS");
  EXPECT_STREQ(queues ? queues : "none", "32");
}

}  // namespace
}  // namespace fourmi
