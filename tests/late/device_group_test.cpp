// Groups that move a device's memory: each byte comes where it belongs, in the order of the streams, while the host
// runs ahead.
#include <gtest/gtest.h>

#include <thread>

#include "kernels/numerics/random.h"
#include "tests/late/fake_nccl.h"
#include "tests/late/group_of_processes.h"
#include "tests/late/late_device.h"

namespace fourmi {
namespace {

using test::LateDevice;
using test::LateStream;

enum class Kind { threads, nccl };

class DeviceGroups : public testing::TestWithParam<Kind> {
 protected:
  /// body(group, stream, device) on every member. A rank that throws ends the others.
  template <class Body>
  static void run(int size, const Body& body) {
    LateDevice device(GetParam() == Kind::nccl ? 3 : 5);
    auto groups = make_thread_groups("ranks", size);
    const auto functions = std::make_shared<nccl::Functions>(test::fake_nccl());
    const int hangs = test::fake_nccl_hangs();
    std::vector<std::thread> threads;
    for (auto& made : groups) {
      if (GetParam() == Kind::nccl) made = std::make_unique<test::NcclGroup>(std::move(made), functions);
      threads.emplace_back([&, group = made.get(), mine = &made] {
        LateStream stream(device, static_cast<unsigned>(group->rank()) + 11);
        try {
          group->use_device(stream);
          body(*group, stream, device);
          stream.synchronize();
          group->barrier();
          mine->reset();  // as processes do: each its own
        } catch (const std::exception& e) {
          ADD_FAILURE() << "rank " << group->rank() << ": " << e.what();
          group->cancel("a member of the test failed");
        }
      });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(test::fake_nccl_hangs(), hangs);
  }
};
INSTANTIATE_TEST_SUITE_P(All, DeviceGroups, testing::Values(Kind::threads, Kind::nccl),
                         [](const auto& kind) { return kind.param == Kind::threads ? "threads" : "nccl"; });

/// Bytes on the device that the stream writes and checks in its order.
class Bytes {
 public:
  Bytes(LateDevice& device, LateStream& stream, std::size_t size)
      : device_(device),
        stream_(stream),
        size_(size),
        data_(device.allocate(static_cast<std::int64_t>(size) + 1, "")) {}
  ~Bytes() {
    stream_.synchronize();
    device_.release(data_);
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  std::span<std::byte> span() const { return {static_cast<std::byte*>(data_), size_}; }
  static std::byte value(int key, std::size_t i) {
    return static_cast<std::byte>(
        random_bits(random_key(9, "late", "bytes"), static_cast<std::uint64_t>(key) << 32 | i));
  }
  /// As work of the stream.
  void write(int key, std::size_t first, std::size_t n) const {
    stream_.give([=, p = span().data()] {
      for (std::size_t i = 0; i < n; ++i) p[first + i] = value(key, i);
    });
  }
  void expect(int key, std::size_t first, std::size_t n, const char* what) const {
    stream_.give([=, p = span().data()] {
      for (std::size_t i = 0; i < n; ++i)
        if (p[first + i] != value(key, i)) {
          ADD_FAILURE() << what << ": byte " << i << " of " << n;
          return;
        }
    });
  }

 private:
  LateDevice& device_;
  LateStream& stream_;
  std::size_t size_;
  void* data_;
};

TEST_P(DeviceGroups, GathersWhatTheStreamWroteBeforeAndBeforeItWritesAgain) {
  run(3, [](Group& group, LateStream& stream, LateDevice& device) {
    constexpr std::size_t n = 4001;
    const Bytes mine(device, stream, n), all(device, stream, 3 * n);
    for (int round = 0; round < 20; ++round) {
      mine.write(10 * round + group.rank(), 0, n);
      group.all_gather(mine.span(), all.span());
      mine.write(999, 0, n);  // behind the gather on all ranks
      for (int r = 0; r < 3; ++r) all.expect(10 * round + r, static_cast<std::size_t>(r) * n, n, "all_gather");
    }
  });
}

TEST_P(DeviceGroups, ExchangesUnequalPartsWhileTheHostRunsAhead) {
  run(4, [](Group& group, LateStream& stream, LateDevice& device) {
    const auto me = static_cast<std::size_t>(group.rank());
    const Bytes send(device, stream, 4096), recv(device, stream, 4096);
    for (int round = 0; round < 20; ++round) {
      const auto count = [&](std::size_t from, std::size_t to) {
        return (from * 7 + to * 13 + static_cast<std::size_t>(round)) % 5 * 100;
      };
      std::vector<std::size_t> out, in;
      std::size_t sent = 0, got = 0;
      for (std::size_t r = 0; r < 4; ++r) {
        send.write(static_cast<int>(1000 * static_cast<std::size_t>(round) + 10 * me + r), sent, count(me, r));
        out.push_back(count(me, r)), in.push_back(count(r, me));
        sent += out.back(), got += in.back();
      }
      Request request = group.start_all_to_all(send.span().first(sent), out, recv.span().first(got), in);
      request.wait();
      std::size_t at = 0;
      for (std::size_t r = 0; r < 4; at += in[r++])
        recv.expect(static_cast<int>(1000 * static_cast<std::size_t>(round) + 10 * r + me), at, in[r], "all_to_all");
    }
  });
}

TEST_P(DeviceGroups, TwoCallsUnderWay) {
  run(2, [](Group& group, LateStream& stream, LateDevice& device) {
    constexpr std::size_t n = 2000;
    const Bytes a(device, stream, n), b(device, stream, n), all_a(device, stream, 2 * n), all_b(device, stream, 2 * n);
    for (int round = 0; round < 20; ++round) {
      a.write(4 * round + group.rank(), 0, n);
      Request first = group.start_all_gather(a.span(), all_a.span());
      b.write(4 * round + 2 + group.rank(), 0, n);
      Request second = group.start_all_gather(b.span(), all_b.span());
      second.wait();
      for (int r = 0; r < 2; ++r) all_b.expect(4 * round + 2 + r, static_cast<std::size_t>(r) * n, n, "second");
      first.wait();
      for (int r = 0; r < 2; ++r) all_a.expect(4 * round + r, static_cast<std::size_t>(r) * n, n, "first");
    }
  });
}

/// A ring and its mirror: each rank has two sends and two receives under way, in another order on odd ranks.
TEST_P(DeviceGroups, MessagesBothWaysBetweenNeighboursWaitForNobodyElse) {
  for (const int size : {2, 3, 4})
    run(size, [size](Group& group, LateStream& stream, LateDevice& device) {
      group.prepare_messages();
      constexpr std::size_t n = 3000;
      const int me = group.rank(), next = (me + 1) % size, before = (me + size - 1) % size;
      const Bytes up(device, stream, n), down(device, stream, n), from_before(device, stream, n),
          from_next(device, stream, n);
      for (int round = 0; round < 10; ++round) {
        up.write(100 * round + me, 0, n), down.write(100 * round + 50 + me, 0, n);
        std::vector<Request> requests;
        const auto send = [&] {
          requests.push_back(group.start_send(up.span(), next, 1));
          requests.push_back(group.start_send(down.span(), before, 2));
        };
        if (me % 2 == 0) send();
        requests.push_back(group.start_receive(from_before.span(), before, 1));
        requests.push_back(group.start_receive(from_next.span(), next, 2));
        if (me % 2 == 1) send();
        for (Request& r : requests) r.wait();
        from_before.expect(100 * round + before, 0, n, "from the rank before");
        from_next.expect(100 * round + 50 + next, 0, n, "from the next rank");
      }
    });
}

TEST_P(DeviceGroups, SubgroupsMoveItToo) {
  run(4, [](Group& group, LateStream& stream, LateDevice& device) {
    const int half = group.rank() / 2;
    const int members[] = {2 * half, 2 * half + 1};
    const auto pair = group.subgroup("pair", members);
    constexpr std::size_t n = 1000;
    const Bytes mine(device, stream, n), both(device, stream, 2 * n);
    mine.write(group.rank(), 0, n);
    pair->all_gather(mine.span(), both.span());
    for (int r = 0; r < 2; ++r) both.expect(2 * half + r, static_cast<std::size_t>(r) * n, n, "pair");
    std::int64_t sum = group.rank();
    pair->all_sum(std::span(&sum, 1));  // of the host
    EXPECT_EQ(sum, 4 * half + 1);
    stream.synchronize();
  });
}

TEST_P(DeviceGroups, HostAndDeviceInOneCallAreABug) {
  run(2, [](Group& group, LateStream& stream, LateDevice& device) {
    const Bytes mine(device, stream, 64);
    std::vector<std::byte> all(128);
    EXPECT_THROW(group.all_gather(mine.span(), all), Error);
  });
}

void expect_rank_lost(const std::function<void()>& move) {
  try {
    move();
    ADD_FAILURE() << "a move with a lost peer";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::rank_lost) << e.what();
  }
}

/// stays(group, stream, waiting) on rank 0, which sets `waiting` before it waits for rank 1, which never comes: who
/// notices that ends the wait.
void lose_rank_1(const std::function<void(Group&, LateStream&, LateDevice&, std::atomic<bool>&)>& stays,
                 const std::function<void(Group&, LateStream&, LateDevice&)>& before = {}) {
  LateDevice device;
  auto groups = make_thread_groups("ranks", 2);
  const auto functions = std::make_shared<nccl::Functions>(test::fake_nccl());
  for (auto& g : groups) g = std::make_unique<test::NcclGroup>(std::move(g), functions);
  const int hangs = test::fake_nccl_hangs();
  std::atomic<bool> waiting{false};
  std::thread first([&] {
    LateStream stream(device, 1);
    groups[0]->use_device(stream);
    if (before) before(*groups[0], stream, device);
    stays(*groups[0], stream, device, waiting);
  });
  std::thread second([&] {
    LateStream stream(device, 2);
    groups[1]->use_device(stream);
    if (before) before(*groups[1], stream, device);
    while (!waiting) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    groups[0]->cancel("rank 1 was lost");  // as the watchdog of rank 0 does
  });
  first.join();
  second.join();
  EXPECT_EQ(test::fake_nccl_hangs(), hangs);
}

/// On the device, where several communicators wait: none of them can be ended alone.
TEST(NcclGroup, ALostPeerEndsInRankLost) {
  const auto exchange = [](Group& group, LateStream& stream, LateDevice& device) {
    const Bytes mine(device, stream, 64), all(device, stream, 128);
    group.all_gather(mine.span(), all.span());
    group.prepare_messages();
  };
  lose_rank_1(
      [](Group& group, LateStream& stream, LateDevice& device, std::atomic<bool>& waiting) {
        const Bytes mine(device, stream, 64), all(device, stream, 128), message(device, stream, 64);
        Request received = group.start_receive(message.span(), 1, 5);
        group.all_gather(mine.span(), all.span());
        received.wait();
        waiting = true;
        stream.synchronize();  // returns because the communicators are ended
        expect_rank_lost([&] { group.all_gather(mine.span(), all.span()); });
      },
      exchange);
}

/// On the host, while the two connect.
TEST(NcclGroup, ALostPeerEndsTheFirstExchangeToo) {
  lose_rank_1([](Group& group, LateStream& stream, LateDevice& device, std::atomic<bool>& waiting) {
    const Bytes mine(device, stream, 64), all(device, stream, 128);
    waiting = true;
    expect_rank_lost([&] { group.all_gather(mine.span(), all.span()); });
  });
}

TEST(NcclLibrary, WhatIsMissingIsSaid) {
  try {
    nccl::load("libthere-is-no-such-library.so.2");
    ADD_FAILURE() << "a library that does not exist";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::environment);
    EXPECT_NE(std::string(e.what()).find("libthere-is-no-such-library.so.2"), std::string::npos) << e.what();
  }
  try {
    nccl::load("libm.so.6");
    ADD_FAILURE() << "a library without NCCL's functions";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("ncclGetVersion"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace fourmi
