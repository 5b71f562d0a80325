// ZeRO stage 1 (Rajbhandari et al. 2020, section 5.1) in panels: each rank of a group owns panels of 128 rows of each
// tensor, never a flat range across tensors (docs/numerics.md "Sums across ranks"). The owner sums the panel's
// gradient, updates it, and sends the new weights to all.
//
// A row is an index of dim 0; an element of a 1-D tensor is a row. (A tensor of stacked experts is given expert by
// expert, or with its first two dims as one: else a panel would be 128 experts.)
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/runtime/tensor.h"
#include "parallel/group.h"
#include "parallel/ordered_sum.h"

namespace fourmi {

/// A tensor of the flat buffers (gradients, weights): elements [offset, offset + shape.num_elements()).
struct ShardTensor {
  std::string name;
  Shape shape;
  std::int64_t offset = 0;
};

/// Rows of one tensor that a rank owns. Its elements are [offset, offset + num_elements) of the rank's packed shard and
/// [flat_offset, flat_offset + num_elements) of the flat buffers.
struct RowRun {
  std::size_t tensor = 0;  ///< index in the plan's list
  std::int64_t first_row = 0, num_rows = 0;
  std::int64_t offset = 0, flat_offset = 0, num_elements = 0;
};

/// Who owns what. A pure function of the list and the group's size, so every rank computes the same plan.
/// A tensor of at least as many panels as ranks is split evenly, its odd panels to those who have least; of a smaller
/// one each panel goes to another rank, largest panels first, to those who have least. So a rank has at most one run of
/// consecutive panels of a tensor.
class ShardPlan {
 public:
  static constexpr std::int64_t panel_rows = 128;

  ShardPlan(std::vector<ShardTensor> tensors, int group_size);

  int group_size() const { return owners_.num_ranks(); }
  const std::vector<ShardTensor>& tensors() const { return tensors_; }
  /// In the order of the tensors, which is the order in the packed shard.
  std::span<const RowRun> runs(int rank) const { return runs_[static_cast<std::size_t>(rank)]; }
  std::int64_t shard_elements(int rank) const { return owners_.num_elements(rank); }
  std::int64_t most_shard_elements() const { return owners_.most_elements(); }
  const Ownership& owners() const { return owners_; }

 private:
  std::vector<ShardTensor> tensors_;
  std::vector<std::vector<RowRun>> runs_;
  Ownership owners_;
};

/// Bytes of a rank's rows in a dtype with scales, one run behind the other: such rows are whole panels, whose bytes lie
/// together.
std::int64_t shard_bytes(const ShardPlan& plan, int rank, DType dtype);
/// The same rows as bytes of flat buffers in which tensor i of the plan begins at first_byte[i]: for all_gather of
/// copies that each owner makes of its rows. Packed: as shard_bytes counts.
Ownership byte_owners(const ShardPlan& plan, DType dtype, std::span<const std::int64_t> first_byte);

/// Bytes of communication scratch worth having for buffers of `dtype` (reduce_scatter_gradients,
/// all_gather_parameters).
std::int64_t zero_scratch_bytes(const ShardPlan& plan, DType dtype);

/// shard = (with Into::add: shard +) my rows of the sum over ranks, in rank order, of the flat gradients. Dtypes,
/// scratch and what may overlap: ordered_sum.h. Whether an fx128 gradient was finite travels beside it (an integer
/// holds no NaN): the caller's all_max.
void reduce_scatter_gradients(const Stream& stream, Group& group, const ShardPlan& plan, const Tensor& flat,
                              const Tensor& shard, const Tensor& scratch, Into into = Into::write,
                              const std::function<void()>& meanwhile = {});

/// flat = every rank's shard in its place (any dtype). Elements that no tensor of the plan covers stay.
void all_gather_parameters(const Stream& stream, Group& group, const ShardPlan& plan, const Tensor& shard,
                           const Tensor& flat, const Tensor& scratch, const std::function<void()>& meanwhile = {});

}  // namespace fourmi
