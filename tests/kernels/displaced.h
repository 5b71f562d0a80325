// Tensors at addresses that vectors do not like.
#pragma once

#include <cstring>

#include "tests/kernels/buffers.h"

namespace fourmi::test {

/// A copy of a tensor, `apart` bytes above a multiple of 64.
struct Displaced {
  Buffer memory;
  Tensor tensor;
  Displaced(const Tensor& t, std::int64_t apart)
      : memory(DType::u8, {t.bytes() + apart}),
        tensor(static_cast<std::byte*>(memory->data) + apart, t.dtype, t.shape) {
    std::memcpy(tensor.data, t.data, static_cast<std::size_t>(t.bytes()));
  }
  operator const Tensor&() const { return tensor; }
};

}  // namespace fourmi::test
