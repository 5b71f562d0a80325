// Are our declarations of NCCL's windows its own? Compiled where its device API's headers are; nothing here runs.
#include <nccl_device/core.h>

#include <cstddef>

#include "parallel/nccl/declarations/ours.h"
#include "parallel/nccl/windows.h"

namespace fourmi::nccl {

template <>
struct Ours<ncclWindow_t> {
  using type = Window*;
};
template <>
struct Ours<ncclWindow_t*> {
  using type = Window**;
};

namespace {

#define FOURMI_SAME(slot, function) \
  static_assert(std::is_same_v<decltype(WindowFunctions::slot), decltype(declared(&function))>)
FOURMI_SAME(mem_alloc, ncclMemAlloc);
FOURMI_SAME(mem_free, ncclMemFree);
FOURMI_SAME(window_register, ncclCommWindowRegister);
FOURMI_SAME(window_deregister, ncclCommWindowDeregister);
#if NCCL_VERSION_CODE >= 23000
FOURMI_SAME(get_lsa_device_pointer, ncclGetLsaDevicePointer);
#endif
#undef FOURMI_SAME
static_assert(
    std::is_same_v<decltype(static_cast<ncclTeam_t (*)(ncclComm_t)>(&ncclTeamLsa)), ncclTeam_t (*)(ncclComm_t)>);
static_assert(sizeof(Team) == sizeof(ncclTeam_t) && offsetof(Team, num_ranks) == offsetof(ncclTeam_t, nRanks) &&
              offsetof(Team, rank) == offsetof(ncclTeam_t, rank) &&
              offsetof(Team, stride) == offsetof(ncclTeam_t, stride));
static_assert(collective_symmetric == NCCL_WIN_COLL_SYMMETRIC && window_alignment == NCCL_WIN_REQUIRED_ALIGNMENT);

}  // namespace
}  // namespace fourmi::nccl
