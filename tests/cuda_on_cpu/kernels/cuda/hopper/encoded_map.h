// In place of kernels/cuda/hopper/encoded_map.h: the value itself is what kernels are given.
#pragma once

#include "kernels/cuda/check.h"
#include "kernels/cuda/hopper/tensor_map.h"

namespace fourmi::cuda::hopper {

struct alignas(64) TensorMap {
  MappedTensor tensor;
};

inline TensorMap encode(const MappedTensor& t) {
  FOURMI_CHECK(trouble(t) == nullptr, "{}", trouble(t));
  return {t};
}

}  // namespace fourmi::cuda::hopper
