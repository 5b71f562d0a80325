// Ranks that hold equal runs of every held expert's intermediate columns (the expert-tensor axis, docs/parallelism.md).
// Before the experts each gets the rows of all, after them each gets the sums of its own rows. Rows are in experts'
// order: with all ranks' rows together, by expert, then by rank, then as the rank has them.
//   R rows of this rank's own   A rows of all ranks   e experts held here   Q ranks of the axis
#pragma once

#include <span>

#include "kernels/runtime/arena.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"

namespace fourmi {

class ColumnExchange {
 public:
  /// For at most `rows` own rows of `columns` columns, each the sum of `parts`
  /// (1 or 2) sums over ranks. `group` has `size` ranks; null where memory is
  /// only measured.
  ColumnExchange(Group* group, int size, std::int64_t rows, std::int64_t columns, int parts, DType accumulate,
                 Arena& arena);

  /// The most of all ranks.
  int most(int value) const;
  /// Every rank's offsets_e1, and from them the offsets of the rows of all.
  void join(std::span<const std::int32_t> offsets_e1, const Tensor& each_Qe1, std::span<std::int32_t> joined_e1) const;
  /// all_A = the rows of all ranks; rows of any kind.
  void gather(const Stream&, const Tensor& each_Qe1, const Tensor& own_R, const Tensor& all_A) const;
  /// Tokens of rows (i32) that each rank numbers from zero to `tokens`,
  /// numbered over all of them.
  void gather_tokens(const Stream&, const Tensor& each_Qe1, const Tensor& own_R1, std::int64_t tokens,
                     const Tensor& all_A1) const;
  /// Memory for what this rank has of the sums of rows, of all that there may be; `which` of `parts`.
  Tensor partial(int which) const;
  /// y_RD = round(tree over the first `parts` partials' trees over ranks), of
  /// this rank's own rows.
  void sum(const Stream&, const Tensor& each_Qe1, int parts, const Tensor& y_RD) const;

 private:
  /// Calls visit(rank, row of the rank's, row of all, n) for each run of rows
  /// that lie together in both.
  template <class Visit>
  void runs(const Tensor& each_Qe1, const Visit& visit) const;
  static std::int64_t num_rows(const Tensor& each_Qe1, std::int64_t rank);
  std::int64_t num_all(const Tensor& each_Qe1) const;

  Group* group_;
  int size_;
  std::int64_t columns_;
  Tensor partials_, packed_, received_;
};

}  // namespace fourmi
