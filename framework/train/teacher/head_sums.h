// Of a chunk of the head's rows: what the ranks of the tensor axis found of their columns, joined over the vocabulary.
//   Letters as in head.h: C rows of a chunk   P ranks of the tensor axis   L leaves
#pragma once

#include "framework/model/context.h"

namespace fourmi {

class HeadSums {
 public:
  HeadSums() = default;
  /// Memory for chunks of so many rows in the accumulator's dtype.
  HeadSums(std::int64_t tensor_ranks, std::int64_t chunk, DType dtype, Arena& arena);

  /// Two places for leaves that this rank holds, of n rows.
  Tensor first(std::int64_t leaves, std::int64_t n) const;
  Tensor second(std::int64_t leaves, std::int64_t n) const;

  /// max = the largest of every rank's.
  void share_max(const Context& c, const Tensor& max_C) const;
  /// Two sums over the whole vocabulary from their leaves on every rank, in one exchange; `other` may be absent.
  void share(const Context& c, const Tensor& one_LC, const Tensor& one_C, const Tensor& other_LC = {},
             const Tensor& other_C = {}) const;

 private:
  Tensor first_LC_, second_LC_;                   // leaves held here
  Tensor max_PC_, all_first_LC_, all_second_LC_;  // every rank's; absent where this one is alone
};

}  // namespace fourmi
