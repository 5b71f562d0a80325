// What travels beside a token's row: which experts it chose and their weights, K of each.
#pragma once

#include <cstddef>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Bytes of a token's record: K ids (i32), K weights.
std::int64_t record_bytes(std::int64_t num_choices, DType weights);

/// records[t] = tokens' ids and weights, row by row.
void pack_records(const Stream&, const Tensor& experts_MK, const Tensor& weights_MK, std::byte* records);

/// The experts [first, first + num_local) are this rank's: experts_UK gets their ids from zero, -1 for all others;
/// weights_UK theirs, 0 for all others.
void unpack_records(const Stream&, const std::byte* records, std::int64_t first, std::int64_t num_local,
                    const Tensor& experts_UK, const Tensor& weights_UK);

}  // namespace fourmi
