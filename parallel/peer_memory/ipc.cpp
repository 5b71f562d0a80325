// Memory of GPUs of one host, by CUDA's handles: each rank gives its own away and opens the others'. What is opened is
// closed before its owner may free it.
#include <array>
#include <cstring>

#include "kernels/runtime/device_sharing.h"
#include "parallel/peer_memory/agree.h"
#include "parallel/peer_memory/devices.h"

namespace fourmi {
namespace {

/// What a rank tells the others.
struct Shared {
  std::array<char, 32> bus_address{};
  DeviceSharing::Handle handle;
};

class MemoryByIpc final : public PeerMemory {
 public:
  MemoryByIpc(Group& group, const Tensor& own)
      : PeerMemory(group, Reach::cuda_ipc),
        group_(group),
        sharing_(dynamic_cast<DeviceSharing*>(&group.device()->runtime())),
        shared_(bases_.size()) {
    bases_[me()] = static_cast<std::byte*>(own.data);
  }
  /// Is it open on all ranks?
  bool open(const PeerMemoryWish& wish, std::string& why) {
    Shared mine;
    if (!try_on_all(
            group_, [&] { share(wish, mine); }, why))
      return false;
    group_.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(shared_)));
    return try_on_all(
        group_, [&] { open_others(); }, why);
  }
  ~MemoryByIpc() override {
    try {
      group_.device()->synchronize();  // what writes to peers has done so
    } catch (const Error&) {
    }
    for (std::size_t r = 0; r < bases_.size(); ++r)
      if (r != me() && bases_[r]) sharing_->close(bases_[r], shared_[r].handle);
    try {
      group_.barrier();
    } catch (const Error&) {  // poisoned: its processes end
    }
  }

 private:
  std::size_t me() const { return static_cast<std::size_t>(group_.rank()); }
  void share(const PeerMemoryWish& wish, Shared& mine) const {
    if (!sharing_)
      throw Error(ExitStatus::environment, "parallel.dispatcher",
                  fmt::format("rank {} has a device without memory for other processes", group_.rank()));
    group_.device()->runtime().fill(bases_[me()], 0, wish.zeroed_bytes);
    std::strncpy(mine.bus_address.data(), sharing_->bus_address().c_str(), mine.bus_address.size() - 1);
    mine.handle = sharing_->share(bases_[me()]);
  }
  void open_others() {
    for (std::size_t r = 0; r < bases_.size(); ++r) {
      if (r == me()) continue;
      const std::string pair = fmt::format("rank {} (GPU {}) and rank {} (GPU {})", group_.rank(),
                                           shared_[me()].bus_address.data(), r, shared_[r].bus_address.data());
      if (!sharing_->may_reach(shared_[r].bus_address.data()))
        throw Error(ExitStatus::usage, "parallel.dispatcher", pair + " have no way to each other's memory");
      try {
        bases_[r] = sharing_->open(shared_[r].handle);
      } catch (const Error& e) {
        throw Error(ExitStatus::usage, "parallel.dispatcher", fmt::format("{}: {}", pair, e.cause()));
      }
    }
  }

  Group& group_;
  DeviceSharing* sharing_;
  std::vector<Shared> shared_;
};

}  // namespace

std::unique_ptr<PeerMemory> open_memory_by_ipc(Group& group, const PeerMemoryWish& wish, const Tensor& own,
                                               std::string& why) {
  auto memory = std::make_unique<MemoryByIpc>(group, own);
  return memory->open(wish, why) ? std::move(memory) : nullptr;
}

}  // namespace fourmi
