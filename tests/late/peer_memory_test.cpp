// Peers' memory of ranks that are processes with GPUs, played by threads whose device lends memory and by a fake NCCL:
// all ranks take the same way, nothing is freed while a peer has it open, and where no way is left two ranks are named.
// What the real libraries do with these calls nothing here shows.
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "kernels/runtime/device_sharing.h"
#include "parallel/peer_memory/devices.h"
#include "tests/late/fake_nccl.h"
#include "tests/late/group_of_processes.h"
#include "tests/late/late_device.h"

namespace fourmi {
namespace {

/// How often each piece of memory is open in another process, over all of them.
class Opened {
 public:
  void add(const std::byte* base, int n) {
    const std::scoped_lock lock(mutex_);
    count_[base] += n;
  }
  bool any(const void* base) {
    const std::scoped_lock lock(mutex_);
    return count_[static_cast<const std::byte*>(base)] > 0;
  }

 private:
  std::mutex mutex_;
  std::map<const std::byte*, int> count_;
};

/// A GPU whose memory other processes open.
class LendingDevice final : public test::LateDevice, public DeviceSharing {
 public:
  LendingDevice(int number, Opened& opened, std::string out_of_reach, int reads_version)
      : number_(number), opened_(opened), out_of_reach_(std::move(out_of_reach)), reads_version_(reads_version) {}
  void release(void* memory) noexcept override {
    EXPECT_FALSE(opened_.any(memory)) << "GPU " << number_ << " frees what is open elsewhere";
    LateDevice::release(memory);
  }
  std::string bus_address() const override { return fmt::format("0000:0{}:00.0", number_); }
  bool may_reach(const std::string& address) const override { return address != out_of_reach_; }
  Handle share(const void* memory) override {
    Handle h{.offset = allocated_.offset_of(memory)};
    const std::byte* const base = static_cast<const std::byte*>(memory) - h.offset;
    std::memcpy(h.bytes.data(), &base, sizeof(base));
    return h;
  }
  std::byte* open(const Handle& h) override {
    opened_.add(base_of(h), 1);
    return base_of(h) + h.offset;
  }
  void close(std::byte* opened, const Handle& h) noexcept override {
    EXPECT_EQ(opened, base_of(h) + h.offset);
    opened_.add(base_of(h), -1);
  }
  int version_of_windows() const override { return reads_version_; }
  void read_window_addresses(void* window, std::span<std::byte*> addresses) override {
    for (std::size_t r = 0; r < addresses.size(); ++r)
      addresses[r] = static_cast<std::byte*>(test::fake_window_address(window, static_cast<int>(r)));
  }

 private:
  static std::byte* base_of(const Handle& h) {
    std::byte* base = nullptr;
    std::memcpy(&base, h.bytes.data(), sizeof(base));
    return base;
  }
  int number_;
  Opened& opened_;
  std::string out_of_reach_;
  int reads_version_;
};

struct Machine {
  Reach reach = Reach::cuda_ipc;
  std::string out_of_reach = {};  ///< a GPU that rank 1's does not reach
  int team = 1;                   ///< of NCCL
  bool has_nccl = true;
  int nccl_version = 23000;  ///< before that the host is not told of addresses
  int reads_version = 0;     ///< of NCCL's windows, by code on the device
};

constexpr int num_ranks = 3;
constexpr std::int64_t bytes = 5000;

/// Each rank writes a word into every rank's memory and looks at its own; what it says: the way, or the error.
std::vector<std::string> reach_each_other(const Machine& machine) {
  Opened opened;
  auto groups = make_thread_groups("expert", num_ranks);
  const auto functions = std::make_shared<nccl::Functions>(test::fake_nccl());
  const int hangs = test::fake_nccl_hangs(), pieces = test::fake_nccl_pieces();
  const LoadWindows load = [&]() -> nccl::WindowLibrary {
    if (!machine.has_nccl) throw Error(ExitStatus::environment, "NCCL", "it is not there", "Install it");
    nccl::WindowLibrary library = test::fake_windows(machine.team);
    library.version = machine.nccl_version;
    if (library.version < 23000) library.windows.get_lsa_device_pointer = nullptr;
    return library;
  };
  std::vector<std::string> said(num_ranks);
  std::vector<std::thread> threads;
  for (auto& host : groups)
    threads.emplace_back([&] {
      const int me = host->rank();
      LendingDevice device(me, opened, me == 1 ? machine.out_of_reach : "", machine.reads_version);
      test::LateStream stream(device, static_cast<unsigned>(me) + 3);
      auto* const arena = static_cast<std::byte*>(device.allocate(bytes + 256, "an arena"));
      device.fill(arena, 0x77, bytes + 256);
      {
        test::NcclGroup group(std::move(host), functions);
        group.use_device(stream);
        try {
          const auto memory = open_memory_of_devices(group, {.bytes = bytes, .zeroed_bytes = 64},
                                                     Tensor(arena + 128, DType::u8, {bytes}), machine.reach, load);
          const auto word = [&](int owner, int writer) {
            return reinterpret_cast<std::uint64_t*>(memory->bases()[static_cast<std::size_t>(owner)]) + writer;
          };
          for (int writer = 0; writer < num_ranks; ++writer) EXPECT_EQ(*word(me, writer), 0u);
          group.barrier();
          for (int owner = 0; owner < num_ranks; ++owner)
            *word(owner, me) = static_cast<std::uint64_t>(10 * owner + me);
          group.barrier();
          for (int writer = 0; writer < num_ranks; ++writer)
            EXPECT_EQ(*word(me, writer), static_cast<std::uint64_t>(10 * me + writer));
          if (me == 2) std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the others may not leave before
          said[static_cast<std::size_t>(me)] = memory->reach() == Reach::cuda_ipc ? "ipc" : "windows";
        } catch (const Error& e) {
          EXPECT_EQ(e.status(), ExitStatus::usage);
          said[static_cast<std::size_t>(me)] = e.what();
        }
        device.release(arena);
        group.barrier();
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(test::fake_nccl_hangs(), hangs);
  EXPECT_EQ(test::fake_nccl_pieces(), pieces);
  for (const std::string& s : said) EXPECT_EQ(s, said[0]) << "ranks differ";
  return said;
}

TEST(PeerMemoryOfDevices, IsOpenedByProcessesOfOneHost) {
  EXPECT_EQ(reach_each_other({})[0], "ipc");
}

TEST(PeerMemoryOfDevices, IsNcclsWhereCardsOfOneHostHaveNoOtherWay) {
  EXPECT_EQ(reach_each_other({.out_of_reach = "0000:02:00.0", .team = 3})[0], "windows");
}

TEST(PeerMemoryOfDevices, IsNcclsAcrossHosts) {
  EXPECT_EQ(reach_each_other({.reach = Reach::nccl_windows, .team = 72})[0], "windows");
}

TEST(PeerMemoryOfDevices, IsFoundByTheDeviceWhereNcclTellsNobodyElse) {
  const Machine old{.reach = Reach::nccl_windows, .team = 3, .nccl_version = 22809, .reads_version = 22807};
  EXPECT_EQ(reach_each_other(old)[0], "windows");
  Machine other = old;
  other.reads_version = 22900;  // laid out in another way
  const std::string said = reach_each_other(other)[0];
  EXPECT_NE(
      said.find("version 22809 of NCCL has no ncclGetLsaDevicePointer (2.30 does), and this build reads windows of "
                "version 22900"),
      std::string::npos)
      << said;
}

TEST(PeerMemoryOfDevices, NamesTwoRanksWhereThereIsNoWay) {
  const std::string both = reach_each_other({.out_of_reach = "0000:02:00.0", .team = 1})[0];
  EXPECT_NE(both.find("rank 1 (GPU 0000:01:00.0) and rank 2 (GPU 0000:02:00.0)"), std::string::npos) << both;
  EXPECT_NE(both.find("ranks 0 and 1 are not in one load/store team, which has 1 of 3"), std::string::npos) << both;
  EXPECT_NE(both.find("hierarchical"), std::string::npos);
  const std::string none = reach_each_other({.reach = Reach::nccl_windows, .has_nccl = false})[0];
  EXPECT_NE(none.find("ranks are on several hosts"), std::string::npos) << none;
  EXPECT_NE(none.find("it is not there"), std::string::npos) << none;
}

}  // namespace
}  // namespace fourmi
