// What the tests of linear maps run on: each instruction set of the CPU, or the card.
#pragma once

#include "tests/device/stream.h"
#include "tests/kernels/float8_test_data.h"

namespace fourmi::test {

/// One on a card, where it means nothing.
inline std::vector<Isa> isas_here() {
  return on_card() ? std::vector<Isa>{best_isa()} : isas();
}
inline Stream stream_on(ThreadPool& pool, Isa isa) {
  return on_card() ? stream_of(pool) : Stream(pool, isa);
}

/// Columns as the stream's device has them.
struct ColumnsHere : Columns {
  ColumnsHere(Shape shape, std::vector<std::int64_t> group, std::int64_t group_rows)
      : Columns(shape, std::move(group), group_rows, on_card()) {}
};

/// How much more than the CPU's chain of fma a sum in f32 may be off. The matrix units add several products at a time
/// and cut what does not fit beside the largest, where an fma rounds to nearest: a unit of the last place instead of
/// half of one, with every product and once more with every step.
inline double looseness(DType in) {
  return on_card() && in != DType::f64 && in != DType::f32 ? 4 : 1;
}

}  // namespace fourmi::test
