// The ways of open_peer_memory, one a file. Each is collective.
#pragma once

#include "parallel/peer_memory/peer_memory.h"

namespace fourmi {

std::unique_ptr<PeerMemory> open_memory_of_threads(Group& group, const PeerMemoryWish& wish, const Tensor& own);
std::unique_ptr<PeerMemory> open_shared_segment(Group& group, const PeerMemoryWish& wish);

}  // namespace fourmi
