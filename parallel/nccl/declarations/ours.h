// What NCCL's types are in our declarations, and so what a function of its headers is there. Compiled where these are.
#pragma once

#include <nccl.h>

#include <type_traits>

#include "parallel/nccl/library.h"

namespace fourmi::nccl {

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

}  // namespace fourmi::nccl
