// NCCL's windows: memory of each rank of a communicator that the others load from and store to, where its load/store
// team (NVLink, within a host or across) has them all. As library.h: found at run time, declared by us.
#pragma once

#include "parallel/nccl/library.h"

namespace fourmi::nccl {

struct Window;  // NCCL's ncclWindow_vidmem
struct Team {
  int num_ranks, rank, stride;
};
inline constexpr int collective_symmetric = 1;  ///< flag of window_register
inline constexpr std::size_t window_alignment = 4096;

struct WindowFunctions {
  Result (*mem_alloc)(void** memory, std::size_t bytes) = nullptr;
  Result (*mem_free)(void* memory) = nullptr;
  Result (*window_register)(Communicator* comm, void* memory, std::size_t bytes, Window** window, int flags) = nullptr;
  Result (*window_deregister)(Communicator* comm, Window* window) = nullptr;
  Team (*team_lsa)(Communicator* comm) = nullptr;  ///< ranks that this one's loads and stores reach
  /// Where a member of that team has the window, as this rank reaches it. Null before 2.30.
  Result (*get_lsa_device_pointer)(Window* window, std::size_t offset, int lsa_rank, void** address) = nullptr;
};

template <class Table, class Visit>
void for_each_window_function(Table& f, const Visit& visit) {
  visit("ncclMemAlloc", f.mem_alloc), visit("ncclMemFree", f.mem_free);
  visit("ncclCommWindowRegister", f.window_register), visit("ncclCommWindowDeregister", f.window_deregister);
  visit("ncclTeamLsa", f.team_lsa), visit("ncclGetLsaDevicePointer", f.get_lsa_device_pointer);
}

struct WindowLibrary {
  std::shared_ptr<const Functions> functions;
  WindowFunctions windows;
  int version = 0;
};

/// As load(). Throws Error(environment) also where the library is too old for windows (2.28 has them).
WindowLibrary load_windows(const std::string& name = "libnccl.so.2");

}  // namespace fourmi::nccl
