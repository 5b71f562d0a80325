// Moves between the ranks of the context axis, which hold a part each of every sequence (sequence_part.h). What all
// rows of a sequence need (keys and values, a balance loss's statistics) is gathered in the order of the ranks, which
// is the sequence's where parts are single runs; what each rank finds for all of them is added, each rank its own rows,
// by a perfect binary tree over ranks in the accumulator dtype (docs/numerics.md L5).
//   Letters   M rows of this rank = S sequences x T / C tokens   N those of whole sequences = S x T   C ranks
#pragma once

#include <array>
#include <vector>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"
#include "parallel/group.h"

namespace fourmi {

class SequenceExchange {
 public:
  /// `group` may be null where memory is only measured.
  SequenceExchange(Group* group, std::int64_t num_sequences);

  int rank() const { return group_->rank(); }
  int size() const { return group_->size(); }
  Group& group() const { return *group_; }

  /// Starts: all_N = every rank's rows. Rows may also be blocks of tokens.
  void gather(const Tensor& mine_M, const Tensor& all_N);
  /// Starts: y_M = round(tree over ranks of their partials' rows that are mine). `received`: memory like `partial`, in
  /// the accumulator dtype.
  void sum(const Tensor& partial_N, const Tensor& received_N, const Tensor& y_M);
  /// Waits for all that was started, and adds the sums, in the order in which they were.
  void finish(const Stream&);

 private:
  struct Sum {
    Tensor received_N, y_M;
  };
  static constexpr std::size_t most_sums = 2;  // of keys and of values
  Request& next();

  Group* group_;
  std::int64_t num_sequences_;
  std::vector<Request> requests_;
  std::array<Sum, most_sums> sums_;
  std::size_t num_requests_ = 0, num_sums_ = 0;
};

}  // namespace fourmi
