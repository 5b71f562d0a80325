// Which kernels a linear map is for: a pure function of what the call is, so that a test can ask it for any shape.
#pragma once

#include <cstdint>

#include "kernels/runtime/dtype.h"

namespace fourmi::cuda::linear {

enum class Map : std::uint8_t { forward, backward_input, backward_weight };

/// What both inputs are made of.
enum class Input : std::uint8_t {
  f64,
  f32,
  bf16,
  e4m3,    ///< elements that share scales by 128 of the sum
  mxe4m3,  ///< by 32
};

struct Descriptor {
  Map map = Map::forward;
  Input input = Input::bf16;
  DType out = DType::bf16;
  std::int64_t num_rows = 0, num_in = 0, num_out = 0;
  std::int64_t num_groups = 1;  ///< experts
  bool grouped = false;
  bool has_residual = false;  ///< added to the product; of a gradient of weights what it holds
  bool aligned = false;  ///< all matrices, and with their sizes all rows of elements, begin at multiples of 16 bytes
};

enum class Family : std::uint8_t {
  plain,         ///< any shape: fma for f64 and f32, matrix units for bf16
  plain_scaled,  ///< any shape: elements widened to 16 bits on their way to the matrix units
};

constexpr Family choose(const Descriptor& d) {
  return d.input == Input::e4m3 || d.input == Input::mxe4m3 ? Family::plain_scaled : Family::plain;
}

}  // namespace fourmi::cuda::linear
