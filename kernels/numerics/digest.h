// Digests of tensors that need no order and no cut (docs/numerics.md "Digests"): each part of a tensor gives a 128-bit
// number, and the numbers of all parts add up, modulo 2^128, to that of the whole. They find damage; they are no
// signature.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// The sum modulo 2^128 over the elements of x of mix(name, global index, bits); `first_element` is the global index of
/// x's first element in the whole tensor of that name. Host memory; every dtype. A change of one element always changes
/// it. Integers, so every instruction set gives the same.
uint128 digest(std::string_view tensor_name, const Tensor& x, std::uint64_t first_element, Isa isa = best_isa());

/// Where the elements of a part lie in its tensor: element i of the part is element
/// first + (i / length) * stride + i % length of the tensor. Some columns of a matrix are runs of one row's elements
/// (`length`), each a whole row (`stride`) after the one before.
struct ElementRuns {
  std::uint64_t first = 0, length = 1, stride = 1;
};
/// The same sum where x is a piece of such a part, beginning with the part's element `begin`.
uint128 digest(std::string_view tensor_name, const Tensor& x, const ElementRuns& runs, std::uint64_t begin = 0,
               Isa isa = best_isa());

/// 32 lower-case hexadecimal digits, most significant first.
std::string digest_text(uint128 digest);
/// The inverse; nothing if the text is not exactly 32 hexadecimal digits (either case).
std::optional<uint128> parse_digest(std::string_view text);

}  // namespace fourmi
