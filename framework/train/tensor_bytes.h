// A tensor as the bytes that a group moves.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/runtime/tensor.h"

namespace fourmi {

inline std::span<std::byte> bytes_of(const Tensor& t) {
  return {static_cast<std::byte*>(t.data), static_cast<std::size_t>(t.bytes())};
}

}  // namespace fourmi
