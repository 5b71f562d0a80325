// One hop of a dispatch: rows to the ranks of their route, and what those made of them back. Both directions move the
// same rows over the same pairs, so they carry the least that any algorithm can: a row once for each rank that needs
// it.
#pragma once

#include "kernels/runtime/stream.h"
#include "parallel/dispatch/route.h"
#include "parallel/group.h"

namespace fourmi {

/// As many numbers to each rank of the group, and from each.
void exchange_lists(Group&, std::span<const std::int64_t> send, std::span<std::int64_t> receive);

/// Copies the round's rows (`rows` begins with the first of them, row_bytes each) into `packed`, and starts to send
/// them. `received` gets, by rank and then by row, what the others sent. Both are the group's until the request ends.
Request start_scatter(const Stream&, Group&, const Route&, int round, const std::byte* rows, std::int64_t row_bytes,
                      std::byte* packed, std::byte* received);

/// The way back: `results` holds one row for each that was received, in that order; `packed` gets one for each copy
/// that was sent.
Request start_gather(Group&, const Route&, int round, const std::byte* results, std::int64_t row_bytes,
                     std::byte* packed);

/// y[t] = round(tree over ranks of the row's copies + first + second), for the round's rows (the tensors' first row is
/// the first of them). The tree is the perfect binary one over all ranks of the group (docs/numerics.md L6); a rank
/// that has no copy is a leaf of zero, so the bits do not depend on which leaves are absent, nor on whether a group is
/// cut in nodes whose sums are then added.
/// Dtypes: packed f32 or f64; y that or, for f32, bf16; first and second (may be absent, may be y itself) y's or
/// packed's. A group of one without a route (default): packed is in the rows' own order.
void sum_copies(const Stream&, const Route&, int round, const Tensor& packed_SD, const Tensor& y_RD,
                const Tensor& first_RD = {}, const Tensor& second_RD = {});

}  // namespace fourmi
