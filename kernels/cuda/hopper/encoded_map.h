// The tensor maps that kernels are given, made by the driver. It is asked for its function at run time: a program that
// links with the driver's library does not start where there is none.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/hopper/tensor_map.h"

namespace fourmi::cuda::hopper {

/// An argument of kernels that is marked __grid_constant__ (or is part of such a one).
using TensorMap = CUtensorMap;

inline TensorMap encode(const MappedTensor& t) {
  FOURMI_CHECK(trouble(t) == nullptr, "{}", trouble(t));
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const auto function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    constexpr unsigned version = 12000;
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, version, cudaEnableDefault, &result),
          "asking the driver for tensor maps");
    if (result != cudaDriverEntryPointSuccess || !found) failed(cudaErrorSymbolNotFound, "tensor maps");
    return reinterpret_cast<Encode>(found);
  }();
  constexpr CUtensorMapSwizzle swizzles[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B,
                                             CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B};
  constexpr CUtensorMapDataType elements[] = {CU_TENSOR_MAP_DATA_TYPE_UINT8, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                                              CU_TENSOR_MAP_DATA_TYPE_FLOAT32};
  cuuint64_t dims[MappedTensor::max_rank], strides[MappedTensor::max_rank] = {};
  cuuint32_t box[MappedTensor::max_rank], steps[MappedTensor::max_rank];
  for (int i = 0; i < t.rank; ++i) {
    const auto at = static_cast<std::size_t>(i);
    dims[i] = static_cast<cuuint64_t>(t.dims[at]);
    box[i] = static_cast<cuuint32_t>(t.box[at]);
    steps[i] = 1;
    if (i + 1 < t.rank) strides[i] = static_cast<cuuint64_t>(t.strides[at]);
  }
  TensorMap map;
  const CUresult status = function(&map, elements[static_cast<int>(t.element)], static_cast<cuuint32_t>(t.rank),
                                   const_cast<void*>(t.address), dims, strides, box, steps,
                                   CU_TENSOR_MAP_INTERLEAVE_NONE, swizzles[static_cast<int>(t.swizzle)],
                                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) failed(cudaErrorInvalidValue, "encoding a tensor map");
  return map;
}

}  // namespace fourmi::cuda::hopper
