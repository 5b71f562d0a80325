#include "kernels/cpu/scaled_groups.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {

using namespace float8;

void quantize_blocks(const Stream& stream, const Tensor& x_MK, const Tensor& q_MK, const Scaling& scaling,
                     QuantizeStatistics* stats) {
  FOURMI_DOOR(quantize_blocks, stream, x_MK, q_MK, scaling, stats);
  const Span span(stream.timeline(), Work::quantise, "quantize_blocks");
  FOURMI_CHECK(q_MK.dtype == DType::e4m3_rows && q_MK.shape.rank == 2 && q_MK.shape == x_MK.shape,
               "quantize_blocks: x {} {}, q {} {}", name_of(x_MK.dtype), to_string(x_MK.shape), name_of(q_MK.dtype),
               to_string(q_MK.shape));
  const std::int64_t M = q_MK.dim(0), K = q_MK.dim(1), groups = ScaledFormat::num_blocks(K);
  const Primitives& p = primitives(stream.isa());
  const ScaledRows rows(stream, q_MK, scaling, stats);
  visit_input(x_MK, "quantize_blocks", [&]<class X>(std::type_identity<X>) {
    const X* from = x_MK.as<X>();
    run_groups(stream, stats, ScaledFormat::num_blocks(M), 1, [&](std::int64_t begin, std::int64_t end) {
      auto* const most = WorkingMemory::mine().get<std::uint32_t>(WorkingUse::row, 2 * groups);
      std::uint32_t* const amax = most + groups;  // of a row
      for (std::int64_t block = begin; block < end; ++block) {
        const std::int64_t first = block * ScaledFormat::block, last = std::min(M, first + ScaledFormat::block);
        std::fill_n(most, groups, 0u);
        for (std::int64_t r = first; r < last; ++r) {
          p.amax(from + r * K, K, ScaledFormat::block, amax);
          for (std::int64_t i = 0; i < groups; ++i) most[i] = std::max(most[i], amax[i]);
        }
        for (std::int64_t r = first; r < last; ++r) rows.write(r, from + r * K, most);
      }
    });
  });
}

}  // namespace fourmi
