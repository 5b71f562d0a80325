// Ranges of keys where a call has some rows of each sequence only (a ring of ranks: attention.h): absolute rows become
// rows of the call.
#pragma once

#include <array>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Of every `sequence` rows in a row, those in [begin[i], end[i]): ascending runs that do not overlap, maybe empty.
struct HeldRows {
  std::int64_t sequence = 1;
  std::array<std::int64_t, 2> begin{}, end{};
};

/// below_M[i] = how many held rows are below the absolute row rows_M[i]. Both [M] i32; non-decreasing where the input
/// is, so that the held rows of [a, b) are [below(a), below(b)).
void count_held_below(const Stream&, const HeldRows&, const Tensor& rows_M, const Tensor& below_M);

}  // namespace fourmi
