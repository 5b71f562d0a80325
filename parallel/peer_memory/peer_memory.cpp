#include "parallel/peer_memory/peer_memory.h"

#include "kernels/runtime/error.h"
#include "parallel/peer_memory/devices.h"
#include "parallel/peer_memory/ways.h"

namespace fourmi {

std::unique_ptr<PeerMemory> open_peer_memory(Group& group, const PeerMemoryWish& wish, const Tensor& own) {
  FOURMI_CHECK(wish.bytes >= 1 && wish.zeroed_bytes <= wish.bytes && own.bytes() >= wish.bytes,
               "{} bytes for {} of which {} are zero", own.bytes(), wish.bytes, wish.zeroed_bytes);
  const Reach reach = agree_on_reach(group);
  switch (reach) {
    case Reach::threads:
      return open_memory_of_threads(group, wish, own);
    case Reach::shared_segment:
      return open_shared_segment(group, wish);
    case Reach::cuda_ipc:
    case Reach::nccl_windows:
      break;
  }
  return open_memory_of_devices(group, wish, own, reach, [] { return nccl::load_windows(); });
}

}  // namespace fourmi
