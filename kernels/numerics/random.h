// Counter-based random numbers: a pure function of (key, index), so that no layout, order or restart changes them.
// Philox4x32-10 (Salmon et al. 2011). Keys are made of (seed, purpose, name or step).
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/runtime/tensor.h"

namespace fourmi {

struct RandomKey {
  std::uint64_t value = 0;
};
/// A key for a named purpose: e.g. ("initialise", "model.layers.0.mlp.experts.3.up_proj.weight"), ("data", "gcide").
RandomKey random_key(std::uint64_t seed, std::string_view purpose, std::string_view name);

/// 64 uniform bits for the element `index`.
std::uint64_t random_bits(RandomKey key, std::uint64_t index);
/// Uniform in (0, 1): an odd multiple of 2^-53, so that x and 1 - x are equally likely and neither 0 nor 1 occurs.
double random_uniform(RandomKey key, std::uint64_t index);
/// Standard normal by the inverse distribution function (Wichura AS241), our own arithmetic throughout.
double random_normal(RandomKey key, std::uint64_t index);

/// x[i] = stddev * normal(key, first_index + i), rounded once to x's dtype (f64, f32 or bf16).
void fill_normal(const Tensor& x, RandomKey key, std::uint64_t first_index, double stddev);

}  // namespace fourmi
