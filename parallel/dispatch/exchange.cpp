#include "parallel/dispatch/exchange.h"

#include <algorithm>

#include "kernels/ops/dispatch_rows.h"

namespace fourmi {
namespace {

void in_bytes(std::span<const std::size_t> rows, std::int64_t row_bytes, std::span<std::size_t> bytes) {
  for (std::size_t r = 0; r < rows.size(); ++r) bytes[r] = rows[r] * static_cast<std::size_t>(row_bytes);
}

Request start(Group& group, std::span<const std::size_t> send_rows, std::span<const std::size_t> receive_rows,
              std::int64_t row_bytes, const Tensor& send, const Tensor& receive) {
  const std::span send_bytes = group.counts(0), receive_bytes = group.counts(1);
  in_bytes(send_rows, row_bytes, send_bytes);
  in_bytes(receive_rows, row_bytes, receive_bytes);
  const auto total = [](std::span<const std::size_t> bytes) {
    std::size_t sum = 0;
    for (std::size_t b : bytes) sum += b;
    return sum;
  };
  return group.start_all_to_all({static_cast<const std::byte*>(send.data), total(send_bytes)}, send_bytes,
                                {static_cast<std::byte*>(receive.data), total(receive_bytes)}, receive_bytes);
}

}  // namespace

void exchange_lists(Group& group, std::span<const std::int64_t> send, std::span<std::int64_t> receive) {
  const std::span bytes = group.counts(0);
  std::fill(bytes.begin(), bytes.end(), send.size_bytes() / bytes.size());
  group.all_to_all(std::as_bytes(send), bytes, std::as_writable_bytes(receive), bytes);
}

Request start_scatter(const Stream& stream, Group& group, const Route& route, int round, const Tensor& rows,
                      std::int64_t row_bytes, const Tensor& packed, const Tensor& received) {
  spread_rows(stream, bytes_of(rows), row_bytes, route.of_round(route.row_RC, round), bytes_of(packed));
  return start(group, route.sent_to(round), route.received_from(round), row_bytes, packed, received);
}

Request start_gather(Group& group, const Route& route, int round, const Tensor& results, std::int64_t row_bytes,
                     const Tensor& packed) {
  return start(group, route.received_from(round), route.sent_to(round), row_bytes, results, packed);
}

}  // namespace fourmi
