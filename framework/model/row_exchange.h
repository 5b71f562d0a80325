// Sequence parallelism (Korthikanti et al. 2022, section 4.2): between the layers that the tensor axis cuts, each of
// its ranks holds a run of the micro-batch's rows. Before a cut layer the rows are gathered; after it the ranks'
// partial sums are added, each rank its own rows, by a perfect binary tree over ranks in the accumulator dtype
// (docs/numerics.md L2). In a group of one nothing moves, and results are written where they belong at once.
//   Letters beside context.h's: m rows of this rank = M / P   P ranks of the axis
#pragma once

#include <array>

#include "framework/model/meanwhile.h"
#include "kernels/runtime/arena.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"

namespace fourmi {

class RowExchange {
 public:
  /// Partial sums of at most `rows` x `columns` in all may be on their way at once, and parts of at most `part_columns`
  /// may be taken out of wider rows (0: none, and a group of one needs no memory). From `arena`.
  /// `group` has `size` ranks; null where it is 1, or where memory is only measured.
  RowExchange(Group* group, int size, std::int64_t rows, std::int64_t columns, std::int64_t part_columns,
              DType activation, DType accumulate, Arena& arena);

  int rank() const { return group_ ? group_->rank() : 0; }
  int size() const { return size_; }
  /// Memory for columns out of wider rows, until the next call.
  Tensor part(const Shape& shape, DType dtype) const {
    FOURMI_CHECK(bytes_of(dtype, shape) <= part_.bytes(), "a part of {} {} in {} bytes", name_of(dtype),
                 to_string(shape), part_.bytes());
    return Tensor(part_.data, dtype, shape);
  }
  /// Of the rows of all ranks, those of the ranks before this one, its own, and those of the ranks behind it.
  struct Split {
    Tensor before, own, behind;
  };
  Split split(const Tensor& all_M) const {
    const std::int64_t m = all_M.dim(0) / size(), first = rank() * m;
    return {all_M.rows(0, first), all_M.rows(first, first + m), all_M.rows(first + m, all_M.dim(0))};
  }
  /// This rank's rows of all.
  Tensor mine(const Tensor& all_M) const {
    const std::int64_t m = all_M.dim(0) / size();
    return all_M.rows(rank() * m, (rank() + 1) * m);
  }

  /// Started moves of one layer; finish() waits, and adds what sums were started, in the order in which they were.
  class Moves {
   public:
    bool alone() const { return rows_ == nullptr || rows_->size() == 1; }
    /// all_MD = every rank's rows. Returns the tensor that will hold them: `mine` itself in a group of one.
    Tensor gather(const Tensor& mine_mD, const Tensor& all_MD);
    /// Memory for this rank's partial sums of the y of all rows, so that its own may still be written when the others'
    /// are on their way. Of a group of more than one.
    Split partial_split(const Tensor& y_mD);
    /// Starts the sum. Of `partial` only what is others' is read before finish(), whose work meanwhile may write the
    /// own rows.
    void sum_of_others(const Split& partial, const Tensor& y_mD, const Tensor& residual_mD = {});
    /// Memory for this rank's partial sum of the y of all rows: y itself in a group of one.
    Tensor partial(const Tensor& y_mD);
    /// The same where y is the sum of several: memory in a group of one too.
    Tensor partial_of_several(const Tensor& y_mD);
    /// y = round(residual + sum over ranks of their partials' rows that are mine). `partial` came from partial(); in a
    /// group of one it already is y.
    void sum(const Tensor& partial_MD, const Tensor& y_mD, const Tensor& residual_mD = {});
    /// y = round(tree over the partials' trees over ranks); of up to 4 partials that lie one after another.
    void sum(std::span<const Tensor> partials_MD, const Tensor& y_mD);
    /// `meanwhile`: done once, before it waits, also where nothing moves.
    void finish(const Meanwhile& meanwhile = {});
    ~Moves() { FOURMI_CHECK(count_ == 0 || std::uncaught_exceptions() > 0, "moves that nobody finished"); }

   private:
    friend class RowExchange;
    Moves(const RowExchange* rows, const Stream& stream) : rows_(rows), stream_(&stream) {}
    struct Sum {
      Tensor received_PmD, y_mD, residual_mD;  ///< P: ranks, of several partials one after another
      Tensor own_mD{};                         ///< where it is not among those received
    };
    void start_sum(const Tensor& partial_MD, const Tensor& received_PmD);
    static constexpr std::size_t most_moves = 4;
    const RowExchange* rows_;
    const Stream* stream_;
    std::array<Request, most_moves> requests_;
    std::array<Sum, most_moves> sums_;  ///< of a request that gathers: empty
    std::size_t count_ = 0;
    std::int64_t used_ = 0;  ///< elements of the exchange's memory
  };
  /// `rows` null: as in a group of one.
  static Moves moves(const RowExchange* rows, const Stream& stream) { return {rows, stream}; }

 private:
  Group* group_;
  int size_;
  Tensor partials_, received_, part_;  ///< flat
};

}  // namespace fourmi
