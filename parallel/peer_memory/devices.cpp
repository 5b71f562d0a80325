#include "parallel/peer_memory/devices.h"

#include "parallel/peer_memory/agree.h"

namespace fourmi {

bool try_on_all(Group& group, const std::function<void()>& work, std::string& why) {
  try {
    agree_on(group, work);
    return true;
  } catch (const Error& e) {
    if (e.status() == ExitStatus::rank_lost || e.status() == ExitStatus::bug) throw;
    why = e.cause();
    return false;
  }
}

std::unique_ptr<PeerMemory> open_memory_of_devices(Group& group, const PeerMemoryWish& wish, const Tensor& own,
                                                   Reach reach, const LoadWindows& load) {
  std::string no_ipc = "ranks are on several hosts", no_windows;
  if (reach == Reach::cuda_ipc)
    if (auto memory = open_memory_by_ipc(group, wish, own, no_ipc)) return memory;
  if (auto memory = open_nccl_windows(group, wish, load, no_windows)) return memory;
  throw Error(
      ExitStatus::usage, "parallel.dispatcher",
      fmt::format("found device for ranks of {} whose GPUs do not reach each other's memory, expected ranks that "
                  "do. Not as processes of one host: {}. Not by NCCL's windows: {}",
                  group.name(), no_ipc, no_windows),
      "Choose hierarchical or all-to-all, which give the same bits");
}

}  // namespace fourmi
