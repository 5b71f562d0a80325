// Sums of floats across ranks, in an order that is fixed (docs/numerics.md "Sums across ranks"): pieces travel by
// all_to_all to the rank that owns them and are added there in rank order. The bytes are those of a ring's
// reduce-scatter; the order does not depend on message timing, the library or the back end.
//
// Ownership says which pieces of a flat buffer of E elements each rank owns; rank r's pieces, one after another, are
// its packed buffer. The buffer travels in rounds, as much at a time as the scratch memory holds, so any amount works;
// while one travels, the next is packed and the one before added up.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/ops/sum_in_order.h"
#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"
#include "parallel/group.h"

namespace fourmi {

/// Elements [flat, flat + count) of the flat buffer are elements [packed, packed + count) of the owner's packed buffer.
struct Piece {
  std::int64_t flat = 0, packed = 0, count = 0;
};

class Ownership {
 public:
  /// One list a rank, in packed order; `packed` is filled in here, and pieces that continue one another are joined.
  explicit Ownership(std::vector<std::vector<Piece>> pieces_by_rank);

  int num_ranks() const { return static_cast<int>(pieces_.size()); }
  std::span<const Piece> pieces(int rank) const { return pieces_[static_cast<std::size_t>(rank)]; }
  /// Elements of a rank's packed buffer; of the largest one.
  std::int64_t num_elements(int rank) const { return elements_[static_cast<std::size_t>(rank)]; }
  std::int64_t most_elements() const { return most_; }
  /// One rank that owns one piece beginning at 0: packed and flat are the same layout.
  bool is_identity() const;

 private:
  std::vector<std::vector<Piece>> pieces_;
  std::vector<std::int64_t> elements_;
  std::int64_t most_ = 0;
};

/// Bytes of scratch worth having for tensors of `dtype`: fewer mean more rounds, more bring nothing. 0 for one rank.
std::int64_t scratch_bytes_for(const Ownership& owners, DType dtype);

/// How a transfer is cut: elements of each rank that travel at a time, and how many such rounds are under way at once.
struct SumRounds {
  std::int64_t elements = 0;
  int under_way = 1;
};
/// `most_elements` of a rank through so much scratch, between at least two ranks.
SumRounds sum_rounds(std::int64_t most_elements, std::int64_t scratch_bytes, std::int64_t num_ranks,
                     std::int64_t element_bytes);

/// mine = sum over ranks, in ascending order, of the pieces of `flat` that this rank owns; with Into::add (equal
/// dtypes) mine = mine + that sum. Dtypes  flat f32 or f64: mine the same. flat fx128 (exact, order-free): mine fx128,
/// or f32 or f64 by one rounding to
///   nearest, ties to even.
/// scratch is u8, of equal size on all ranks. mine does not overlap flat, except that with one rank and the same dtype
///   and layout it may be flat itself: then nothing is copied. Collective.
/// meanwhile, here and below: work without calls that is done once, when the first rounds travel.
void reduce_scatter(const Stream&, Group& group, const Ownership& owners, const Tensor& flat, const Tensor& mine,
                    const Tensor& scratch, Into into = Into::write, const std::function<void()>& meanwhile = {});

/// The other direction, for any dtype: flat = every rank's pieces, from their owners' packed buffers. Elements of flat
/// that nobody owns stay. Collective.
void all_gather(const Stream&, Group& group, const Ownership& owners, const Tensor& mine, const Tensor& flat,
                const Tensor& scratch, const std::function<void()>& meanwhile = {});

/// Small vectors: values = sum over ranks in ascending order, on every rank. Collective.
void all_sum_ordered(Group& group, std::span<double> values);

}  // namespace fourmi
