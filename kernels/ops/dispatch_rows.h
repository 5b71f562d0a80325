// Rows of tokens that go to several ranks and come back: the copies side by side in the order in which they travel, and
// the sum of what comes back (parallel/dispatch says which copy goes where).
//
// Shapes   T tokens   C most copies of a token   S copies in all   D columns   K choices of a token
// A token's copies come first in its rows of rank_TC and row_TC (both i32): ranks ascend, -1 stands behind the last.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// copies_S[row_TC[t, c]] = rows_T[t], for rows of row_bytes; both of dtype u8, and at least so long. Moves bytes.
void spread_rows(const Stream&, const Tensor& rows_T, std::int64_t row_bytes, const Tensor& row_TC,
                 const Tensor& copies_S);

/// Where a token's copies are. Absent tables: one copy each, in the tokens' own order.
struct CopyPlaces {
  Tensor rank_TC, row_TC;
  int num_ranks = 1;
};

/// y[t] = round(tree over ranks of the token's copies + first + second). The tree is the perfect binary one over all
/// ranks (docs/numerics.md L6); a rank that has no copy is a leaf of zero, so the bits do not depend on which leaves
/// are absent, nor on whether a group is cut in nodes whose sums are then added. Dtypes: copies f32 or f64; y that or,
/// for f32, bf16; first and second (may be absent, may be y itself) y's or the copies'.
void sum_copies(const Stream&, const CopyPlaces&, const Tensor& copies_SD, const Tensor& y_TD,
                const Tensor& first_TD = {}, const Tensor& second_TD = {});

/// A token's copies, wherever they lie: n of them, of ranks that ascend.
struct TokenCopies {
  const std::byte* const* copies;
  const std::int32_t* ranks;
  int n;
  int num_ranks;
};
/// The same for one token, on the host: y[token] of all rows.
void sum_copies_of_token(const TokenCopies& copies, std::int64_t token, const Tensor& y_TD, const Tensor& first_TD,
                         const Tensor& second_TD);

/// What travels beside a token's row: K ids (i32) of the experts it chose, then K weights. Bytes of it.
constexpr std::int64_t record_bytes(std::int64_t num_choices, DType weights) {
  return num_choices * (size_of(DType::i32) + size_of(weights));
}

/// records[t] = the token's ids and weights (f32 or f64). records: u8, at least T record_bytes().
void pack_records(const Stream&, const Tensor& experts_TK, const Tensor& weights_TK, const Tensor& records);

/// Of as many records as experts_TK has rows: the experts [first, first + num_local) are this rank's. experts_TK gets
/// their ids from zero, -1 for all others; weights_TK theirs, 0 for all others.
void unpack_records(const Stream&, const Tensor& records, std::int64_t first, std::int64_t num_local,
                    const Tensor& experts_TK, const Tensor& weights_TK);

}  // namespace fourmi
