#include "framework/train/teacher/head_sums.h"

#include "framework/model/cut_linear.h"
#include "framework/model/head.h"
#include "kernels/ops/max_parts.h"
#include "kernels/ops/tree_sum.h"

namespace fourmi {

HeadSums::HeadSums(std::int64_t P, std::int64_t chunk, DType dtype, Arena& arena) {
  const auto take = [&](Shape shape, const char* what) { return arena.allocate(shape, dtype, what); };
  const std::int64_t L = vocabulary_leaves;
  first_LC_ = take({L / P, chunk}, "leaf sums"), second_LC_ = take({L / P, chunk}, "leaf sums");
  if (P == 1) return;
  max_PC_ = take({P, chunk}, "every max");
  all_first_LC_ = take({L, chunk}, "every sum"), all_second_LC_ = take({L, chunk}, "every sum");
}

Tensor HeadSums::first(std::int64_t leaves, std::int64_t n) const {
  return first_rows_of(first_LC_, leaves, n);
}

Tensor HeadSums::second(std::int64_t leaves, std::int64_t n) const {
  return first_rows_of(second_LC_, leaves, n);
}

void HeadSums::share_max(const Context& c, const Tensor& max_C) const {
  if (!max_PC_) return;
  const Tensor every = first_rows_of(max_PC_, max_PC_.dim(0), max_C.dim(0));
  max_of_parts(*c.stream, gathered(c, max_C, every), max_C);
}

void HeadSums::share(const Context& c, const Tensor& one_LC, const Tensor& one_C, const Tensor& other_LC,
                     const Tensor& other_C) const {
  const auto every = [&](const Tensor& memory, const Tensor& sums) {
    return max_PC_ ? first_rows_of(memory, max_PC_.dim(0) * c.leaves.vocabulary, sums.dim(1)) : sums;
  };
  const Tensor one = every(all_first_LC_, one_LC), other = other_C ? every(all_second_LC_, other_LC) : Tensor{};
  if (max_PC_) {
    RowExchange::Moves moves = c.moves();
    moves.gather(one_LC, one);
    if (other) moves.gather(other_LC, other);
    moves.finish();
  }
  tree_sum(*c.stream, one, one_C);
  if (other) tree_sum(*c.stream, other, other_C);
}

}  // namespace fourmi
