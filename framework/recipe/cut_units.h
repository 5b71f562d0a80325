// The units of dims that an axis may cut (docs/numerics.md L1), and that mode layout cuts into leaves: whole heads,
// whole blocks of columns. Precisions of eight bits share a scale among neighbours of a row: there no cut comes between
// them.
#pragma once

#include <cstdint>

#include "framework/recipe/recipe.h"

namespace fourmi {

/// Columns that FP8 elements share a scale over.
constexpr std::int64_t scale_block(Compute compute) {
  return compute == Compute::mxfp8 ? 32 : 128;
}

/// Of the heads (MLA) or the key and value heads: so many at least are cut off together. 0: no number of them fits.
std::int64_t head_units(const ModelSection& model, Compute compute);
/// Of intermediate columns. In mode layout blocks of 16. 0: the columns are no whole number of blocks.
std::int64_t column_units(std::int64_t columns, Reproducibility mode, Compute compute);

}  // namespace fourmi
