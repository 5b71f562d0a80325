#include "kernels/ops/dispatch_rows.h"

#include <algorithm>
#include <cstring>

#include "kernels/ops/dispatch_checks.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

constexpr std::int64_t grain = 512;

}  // namespace

void spread_rows(const Stream& stream, const Tensor& rows_T, std::int64_t row_bytes, const Tensor& row_TC,
                 const Tensor& copies_S) {
  FOURMI_DOOR(spread_rows, stream, rows_T, row_bytes, row_TC, copies_S);
  const std::int64_t T = row_TC.dim(0), C = row_TC.dim(1);
  check_spread(rows_T, row_bytes, row_TC);
  const auto* place = row_TC.as<std::int32_t>();
  const auto* rows = reinterpret_cast<const std::byte*>(rows_T.as<std::uint8_t>());
  auto* copies = reinterpret_cast<std::byte*>(copies_S.as<std::uint8_t>());
  const std::int64_t each = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, row_bytes * C));
  stream.pool().parallel_for(T, each, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t)
      for (std::int64_t c = 0; c < C && place[t * C + c] >= 0; ++c)
        std::memcpy(copies + place[t * C + c] * row_bytes, rows + t * row_bytes, static_cast<std::size_t>(row_bytes));
  });
}

void pack_records(const Stream& stream, const Tensor& experts_TK, const Tensor& weights_TK, const Tensor& records) {
  FOURMI_DOOR(pack_records, stream, experts_TK, weights_TK, records);
  check_records(records, experts_TK, weights_TK);
  const std::int64_t K = experts_TK.dim(1), record = record_bytes(K, weights_TK.dtype);
  const auto id_bytes = static_cast<std::size_t>(K * size_of(DType::i32)),
             weight_bytes = static_cast<std::size_t>(record) - id_bytes;
  const auto *ids = reinterpret_cast<const std::byte*>(experts_TK.as<std::int32_t>()),
             *weights = static_cast<const std::byte*>(weights_TK.data);
  auto* to = reinterpret_cast<std::byte*>(records.as<std::uint8_t>());
  stream.pool().parallel_for(experts_TK.dim(0), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const auto i = static_cast<std::size_t>(t);
      std::memcpy(to + t * record, ids + i * id_bytes, id_bytes);
      std::memcpy(to + t * record + id_bytes, weights + i * weight_bytes, weight_bytes);
    }
  });
}

void unpack_records(const Stream& stream, const Tensor& records, std::int64_t first, std::int64_t num_local,
                    const Tensor& experts_TK, const Tensor& weights_TK) {
  FOURMI_DOOR(unpack_records, stream, records, first, num_local, experts_TK, weights_TK);
  check_records(records, experts_TK, weights_TK);
  const std::int64_t K = experts_TK.dim(1), record = record_bytes(K, weights_TK.dtype);
  const auto* from_first = reinterpret_cast<const std::byte*>(records.as<std::uint8_t>());
  auto* ids = experts_TK.as<std::int32_t>();
  visit_accumulator(weights_TK.dtype, "unpack_records", [&]<class A>(std::type_identity<A>) {
    A* weights = weights_TK.as<A>();
    stream.pool().parallel_for(experts_TK.dim(0), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin * K; i < end * K; ++i) {
        const std::byte* from = from_first + i / K * record;
        const std::int64_t k = i % K;
        std::int32_t id = 0;
        std::memcpy(&id, from + k * size_of(DType::i32), sizeof(id));
        const bool local = id >= first && id < first + num_local;
        ids[i] = local ? static_cast<std::int32_t>(id - first) : -1;
        weights[i] = 0;
        if (local) std::memcpy(weights + i, from + K * size_of(DType::i32) + k * size_of(weights_TK.dtype), sizeof(A));
      }
    });
  });
}

}  // namespace fourmi
