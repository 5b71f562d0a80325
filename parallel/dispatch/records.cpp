#include "parallel/dispatch/records.h"

#include <cstring>

#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

constexpr std::int64_t grain = 512;

void check(const Tensor& experts, const Tensor& weights) {
  FOURMI_CHECK(experts.shape == weights.shape && experts.shape.rank == 2, "experts {}, weights {}",
               to_string(experts.shape), to_string(weights.shape));
}

}  // namespace

std::int64_t record_bytes(std::int64_t num_choices, DType weights) {
  return num_choices * (size_of(DType::i32) + size_of(weights));
}

void pack_records(const Stream& stream, const Tensor& experts_MK, const Tensor& weights_MK, std::byte* records) {
  check(experts_MK, weights_MK);
  const std::int64_t K = experts_MK.dim(1), record = record_bytes(K, weights_MK.dtype);
  const auto id_bytes = static_cast<std::size_t>(K * size_of(DType::i32)),
             weight_bytes = static_cast<std::size_t>(record) - id_bytes;
  const auto *ids = reinterpret_cast<const std::byte*>(experts_MK.as<std::int32_t>()),
             *weights = static_cast<const std::byte*>(weights_MK.data);
  stream.pool().parallel_for(experts_MK.dim(0), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const auto i = static_cast<std::size_t>(t);
      std::memcpy(records + t * record, ids + i * id_bytes, id_bytes);
      std::memcpy(records + t * record + id_bytes, weights + i * weight_bytes, weight_bytes);
    }
  });
}

void unpack_records(const Stream& stream, const std::byte* records, std::int64_t first, std::int64_t num_local,
                    const Tensor& experts_UK, const Tensor& weights_UK) {
  check(experts_UK, weights_UK);
  const std::int64_t K = experts_UK.dim(1), record = record_bytes(K, weights_UK.dtype);
  auto* ids = experts_UK.as<std::int32_t>();
  visit_accumulator(weights_UK.dtype, "unpack_records", [&]<class A>(std::type_identity<A>) {
    A* weights = weights_UK.as<A>();
    stream.pool().parallel_for(experts_UK.dim(0), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin * K; i < end * K; ++i) {
        const std::byte* from = records + i / K * record;
        const std::int64_t k = i % K;
        std::int32_t id = 0;
        std::memcpy(&id, from + k * size_of(DType::i32), sizeof(id));
        const bool local = id >= first && id < first + num_local;
        ids[i] = local ? static_cast<std::int32_t>(id - first) : -1;
        weights[i] = 0;
        if (local) std::memcpy(weights + i, from + K * size_of(DType::i32) + k * size_of(weights_UK.dtype), sizeof(A));
      }
    });
  });
}

}  // namespace fourmi
