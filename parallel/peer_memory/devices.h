// The ways of open_peer_memory that ranks with GPUs in processes of their own have. Each is collective and comes back
// with nothing on all ranks where some cannot; then `why` says which, and of what.
#pragma once

#include <functional>

#include "parallel/nccl/windows.h"
#include "parallel/peer_memory/peer_memory.h"

namespace fourmi {

using LoadWindows = std::function<nccl::WindowLibrary()>;

/// `own` itself, opened by the others as memory of another process of their host.
std::unique_ptr<PeerMemory> open_memory_by_ipc(Group& group, const PeerMemoryWish& wish, const Tensor& own,
                                               std::string& why);
/// Memory of NCCL's in a communicator of its own.
std::unique_ptr<PeerMemory> open_nccl_windows(Group& group, const PeerMemoryWish& wish, const LoadWindows& load,
                                              std::string& why);

/// By the first of these that all ranks have, of those that `reach` lets hope for. Throws Error(usage) where there is
/// none.
std::unique_ptr<PeerMemory> open_memory_of_devices(Group& group, const PeerMemoryWish& wish, const Tensor& own,
                                                   Reach reach, const LoadWindows& load);

/// Collective: true if it worked on all; else `why` tells of the first rank where it did not. What ends a run
/// (Error(rank_lost)) goes through.
bool try_on_all(Group& group, const std::function<void()>& work, std::string& why);

}  // namespace fourmi
