// Are our declarations of NCCL's functions its own? Compiled where its header is; nothing here runs.
#include <nccl.h>

#include <type_traits>

#include "parallel/nccl/library.h"

namespace fourmi::nccl {
namespace {

/// What NCCL's types are in our declarations.
template <class T>
struct Ours {
  using type = T;
};
template <>
struct Ours<ncclResult_t> {
  using type = Result;
};
template <>
struct Ours<ncclResult_t*> {
  using type = Result*;
};
template <>
struct Ours<ncclDataType_t> {
  using type = DataType;
};
template <>
struct Ours<ncclComm_t> {
  using type = Communicator*;
};
template <>
struct Ours<ncclComm_t*> {
  using type = Communicator**;
};
template <>
struct Ours<ncclUniqueId> {
  using type = Id;
};
template <>
struct Ours<ncclUniqueId*> {
  using type = Id*;
};
template <>
struct Ours<cudaStream_t> {
  using type = void*;
};

template <class R, class... A>
auto declared(R (*)(A...)) -> typename Ours<R>::type (*)(typename Ours<A>::type...);

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
