// Which kernels a linear map is for: a pure function of what the call and the card are, so that a test can ask it for
// any shape and any card.
#pragma once

#include <cstdint>

#include "kernels/cuda/capability.h"
#include "kernels/cuda/hopper/fits.h"
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
  std::int64_t num_used_rows = 0;  ///< of them those that are in a group
  std::int64_t num_places = 0;     ///< S of columns (kernels/ops/column_scaled.h)
  std::int64_t num_groups = 1;     ///< experts
  bool grouped = false;
  bool has_residual = false;  ///< added to the product; of a gradient of weights what it holds
  bool aligned = false;  ///< all matrices, and with their sizes all rows of elements, begin at multiples of 16 bytes
  bool addresses_aligned = false;  ///< all matrices and columns' scales begin at such
};

enum class Family : std::uint8_t {
  plain,                 ///< any shape: fma for f64 and f32, matrix units for bf16
  plain_scaled,          ///< any shape: elements widened to 16 bits on their way to the matrix units
  hopper_product,        ///< y of e4m3 rows and panels, by Hopper's FP8 units
  hopper_gradient,       ///< dw of e4m3 columns, alike
  hopper_bf16_product,   ///< y and dx of bf16, by Hopper's asynchronous units
  hopper_bf16_gradient,  ///< dw of bf16, alike
};

/// Hopper's kernels where the card has their units and they fit. Those of e4m3 have no dx: who wants it of them gives
/// linear_forward the transposed weight (kernels/ops/transpose_panels.h).
constexpr Family choose(const Descriptor& d, Capability card) {
  const bool scaled = d.input == Input::e4m3 || d.input == Input::mxe4m3;
  const Family any_shape = scaled ? Family::plain_scaled : Family::plain;
  if (!card.has_hoppers_units() || !d.addresses_aligned || d.input == Input::mxe4m3) return any_shape;
  const hopper::ProductSizes forward{d.num_rows, d.num_out, d.num_in, d.num_groups, d.out},
      turned{d.num_rows, d.num_in, d.num_out, d.num_groups, d.out};
  const hopper::GradientSizes gradient{d.num_used_rows, d.num_out, d.num_in, d.num_places, d.num_groups};
  if (d.input == Input::bf16) {
    if (d.map == Map::forward && bf16_fits(forward)) return Family::hopper_bf16_product;
    if (d.map == Map::backward_input && bf16_fits(turned)) return Family::hopper_bf16_product;
    if (d.map == Map::backward_weight && bf16_fits(gradient)) return Family::hopper_bf16_gradient;
  }
  if (d.input == Input::e4m3) {
    if (d.map == Map::forward && fits(forward)) return Family::hopper_product;
    if (d.map == Map::backward_weight && fits(gradient)) return Family::hopper_gradient;
  }
  return any_shape;
}

}  // namespace fourmi::cuda::linear
