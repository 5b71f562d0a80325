#include "parallel/dispatch/exchange.h"

#include <algorithm>
#include <cstring>

namespace fourmi {
namespace {

std::int64_t row_grain(std::int64_t bytes) {
  return std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, bytes));
}

void in_bytes(std::span<const std::size_t> rows, std::int64_t row_bytes, std::span<std::size_t> bytes) {
  for (std::size_t r = 0; r < rows.size(); ++r) bytes[r] = rows[r] * static_cast<std::size_t>(row_bytes);
}

Request start(Group& group, std::span<const std::size_t> send_rows, std::span<const std::size_t> receive_rows,
              std::int64_t row_bytes, const std::byte* send, std::byte* receive) {
  const std::span send_bytes = group.counts(0), receive_bytes = group.counts(1);
  in_bytes(send_rows, row_bytes, send_bytes);
  in_bytes(receive_rows, row_bytes, receive_bytes);
  const auto total = [](std::span<const std::size_t> bytes) {
    std::size_t sum = 0;
    for (std::size_t b : bytes) sum += b;
    return sum;
  };
  return group.start_all_to_all({send, total(send_bytes)}, send_bytes, {receive, total(receive_bytes)}, receive_bytes);
}

}  // namespace

void exchange_lists(Group& group, std::span<const std::int64_t> send, std::span<std::int64_t> receive) {
  const std::span bytes = group.counts(0);
  std::fill(bytes.begin(), bytes.end(), send.size_bytes() / bytes.size());
  group.all_to_all(std::as_bytes(send), bytes, std::as_writable_bytes(receive), bytes);
}

Request start_scatter(const Stream& stream, Group& group, const Route& route, int round, const std::byte* rows,
                      std::int64_t row_bytes, std::byte* packed, std::byte* received) {
  const std::int64_t C = route.rank_RC.dim(1);
  const std::int32_t* place = route.row_RC.as<std::int32_t>() + route.begin(round) * C;
  stream.pool().parallel_for(route.num_rows(round), row_grain(row_bytes * C),
                             [&](std::int64_t begin, std::int64_t end) {
                               for (std::int64_t t = begin; t < end; ++t)
                                 for (std::int64_t c = 0; c < C && place[t * C + c] >= 0; ++c)
                                   std::memcpy(packed + place[t * C + c] * row_bytes, rows + t * row_bytes,
                                               static_cast<std::size_t>(row_bytes));
                             });
  return start(group, route.sent_to(round), route.received_from(round), row_bytes, packed, received);
}

Request start_gather(Group& group, const Route& route, int round, const std::byte* results, std::int64_t row_bytes,
                     std::byte* packed) {
  return start(group, route.received_from(round), route.sent_to(round), row_bytes, results, packed);
}

}  // namespace fourmi
