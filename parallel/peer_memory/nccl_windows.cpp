// Memory of GPUs, on one host or several, as windows of NCCL's: each rank has a piece of memory of NCCL's own, and NCCL
// maps it into the address space of all GPUs that its loads and stores reach.
#include "kernels/runtime/device_sharing.h"
#include "parallel/nccl/windows.h"
#include "parallel/peer_memory/agree.h"
#include "parallel/peer_memory/devices.h"

namespace fourmi {
namespace {

class NcclWindows final : public PeerMemory {
 public:
  explicit NcclWindows(Group& group) : PeerMemory(group, Reach::nccl_windows), group_(group) {}

  /// Is it open on all ranks?
  bool open(const PeerMemoryWish& wish, const LoadWindows& load, std::string& why) {
    nccl::Id id{};
    const auto begin = [&] {
      library_ = load();
      if (group_.rank() == 0) check(library_.functions->get_unique_id(&id), "ncclGetUniqueId");
    };
    if (!try_on_all(group_, begin, why)) return false;
    group_.broadcast(std::as_writable_bytes(std::span(id.bytes)), 0);
    const auto join = [&] {
      check(library_.functions->comm_init_rank(&comm_, group_.size(), id, group_.rank()), "ncclCommInitRank");
      require_all(library_.windows.team_lsa(comm_));
    };
    if (!try_on_all(group_, join, why)) return false;
    const std::size_t align = nccl::window_alignment,
                      bytes = (static_cast<std::size_t>(wish.bytes) + align - 1) / align * align;
    const auto allocate = [&] {
      check(library_.windows.mem_alloc(&memory_, bytes), "ncclMemAlloc");
      group_.device()->runtime().fill(memory_, 0, static_cast<std::int64_t>(bytes));
    };
    if (!try_on_all(group_, allocate, why)) return false;
    const auto map = [&] {
      check(library_.windows.window_register(comm_, memory_, bytes, &window_, nccl::collective_symmetric),
            "ncclCommWindowRegister");
      if (!window_) fail("ncclCommWindowRegister gave no window");
      find_addresses();
    };
    return open_ = try_on_all(group_, map, why);
  }

  ~NcclWindows() override {
    if (!comm_) return;
    if (open_) try {
        group_.device()->synchronize();  // what writes to peers has done so
        group_.barrier();
        library_.windows.window_deregister(comm_, window_);
        library_.windows.mem_free(memory_);
        library_.functions->comm_destroy(comm_);
        return;
      } catch (const Error&) {  // poisoned: its processes end, and NCCL would wait for the lost one
      }
    library_.functions->comm_abort(comm_);
    if (!open_ && memory_) library_.windows.mem_free(memory_);  // nobody has its address
  }

 private:
  [[noreturn]] void fail(const std::string& cause) const {
    throw Error(ExitStatus::environment, "parallel.dispatcher", fmt::format("rank {}: {}", group_.rank(), cause));
  }
  void check(nccl::Result result, const char* what) const {
    if (result == nccl::success) return;
    const char* const text = library_.functions->get_error_string(result);
    fail(fmt::format("{} says '{}'", what, text ? text : "?"));
  }
  /// By the host's function where NCCL has it, else by code on the device that was built for this version.
  void find_addresses() {
    auto* const device = dynamic_cast<DeviceSharing*>(&group_.device()->runtime());
    if (library_.windows.get_lsa_device_pointer) {
      for (int r = 0; r < group_.size(); ++r) {
        void* address = nullptr;
        check(library_.windows.get_lsa_device_pointer(window_, 0, r, &address), "ncclGetLsaDevicePointer");
        bases_[static_cast<std::size_t>(r)] = static_cast<std::byte*>(address);
      }
    } else if (device && device->version_of_windows() / 100 == library_.version / 100) {
      device->read_window_addresses(window_, bases_);
    } else {
      fail(
          fmt::format("version {} of NCCL has no ncclGetLsaDevicePointer (2.30 does), and this build reads windows of "
                      "version {}",
                      library_.version, device ? device->version_of_windows() : 0));
    }
    for (const std::byte* base : bases_)
      if (!base) fail("NCCL has no address of a window");
  }
  /// A team is of consecutive ranks. Where it has all, its ranks are the group's.
  void require_all(const nccl::Team& team) const {
    if (team.num_ranks >= group_.size()) return;
    const int first = group_.rank() - team.rank * team.stride, me = group_.rank();
    const int outside = first > 0 ? 0 : first + team.num_ranks * team.stride;
    throw Error(ExitStatus::usage, "parallel.dispatcher",
                fmt::format("ranks {} and {} are not in one load/store team, which has {} of {} ranks", me, outside,
                            team.num_ranks, group_.size()));
  }

  Group& group_;
  nccl::WindowLibrary library_;
  nccl::Communicator* comm_ = nullptr;
  void* memory_ = nullptr;
  nccl::Window* window_ = nullptr;
  bool open_ = false;  // on all ranks
};

}  // namespace

std::unique_ptr<PeerMemory> open_nccl_windows(Group& group, const PeerMemoryWish& wish, const LoadWindows& load,
                                              std::string& why) {
  auto memory = std::make_unique<NcclWindows>(group);
  return memory->open(wish, load, why) ? std::move(memory) : nullptr;
}

}  // namespace fourmi
