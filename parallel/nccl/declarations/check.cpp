// Are our declarations of NCCL's functions its own? Compiled where its header is; nothing here runs.
#include "parallel/nccl/declarations/ours.h"

namespace fourmi::nccl {
namespace {

#define FOURMI_SAME(slot, function) \
  static_assert(std::is_same_v<decltype(Functions::slot), decltype(declared(&function))>)
FOURMI_SAME(get_version, ncclGetVersion);
FOURMI_SAME(get_unique_id, ncclGetUniqueId);
FOURMI_SAME(comm_init_rank, ncclCommInitRank);
FOURMI_SAME(comm_destroy, ncclCommDestroy);
FOURMI_SAME(comm_abort, ncclCommAbort);
FOURMI_SAME(comm_get_async_error, ncclCommGetAsyncError);
FOURMI_SAME(group_start, ncclGroupStart);
FOURMI_SAME(group_end, ncclGroupEnd);
FOURMI_SAME(send, ncclSend);
FOURMI_SAME(recv, ncclRecv);
FOURMI_SAME(get_error_string, ncclGetErrorString);
#undef FOURMI_SAME
static_assert(sizeof(Id) == sizeof(ncclUniqueId) && alignof(Id) == alignof(ncclUniqueId));
static_assert(int{success} == int{ncclSuccess} && int{in_progress} == int{ncclInProgress} &&
              int{int8} == int{ncclInt8});
static_assert(sizeof(Result) == sizeof(ncclResult_t) && sizeof(DataType) == sizeof(ncclDataType_t));

}  // namespace
}  // namespace fourmi::nccl
