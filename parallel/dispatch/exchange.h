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

/// A tensor's bytes.
inline Tensor bytes_of(const Tensor& t) {
  return Tensor(t.data, DType::u8, {t.bytes()}, t.device);
}

/// Copies the round's rows (`rows` begins with the first of them, row_bytes each) into `packed`, and starts to send
/// them. `received` gets, by rank and then by row, what the others sent. Both are the group's until the request ends.
Request start_scatter(const Stream&, Group&, const Route&, int round, const Tensor& rows, std::int64_t row_bytes,
                      const Tensor& packed, const Tensor& received);

/// The way back: `results` holds one row for each that was received, in that order; `packed` gets one for each copy
/// that was sent.
Request start_gather(Group&, const Route&, int round, const Tensor& results, std::int64_t row_bytes,
                     const Tensor& packed);

}  // namespace fourmi
