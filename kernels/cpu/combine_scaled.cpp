// combine_backward into rows with scales.
#include "kernels/cpu/scaled_groups.h"
#include "kernels/numerics/lanes.h"
#include "kernels/ops/door.h"
#include "kernels/ops/permute.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {
namespace {

using namespace float8;

/// dy: of T, or rows with scales.
template <class T>
struct CombineBackward {
  const Tensor& dy;
  const Primitives& primitives;
  const T* rows;
  const float* weights;
  const std::int32_t* row_of;
  const ScaledRows& drows;
  float* dweights;
  std::int64_t size, num_choices;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    float* const source = WorkingMemory::mine().get<float>(WorkingUse::row, 2 * size);
    float* const target = source + size;
    const std::int64_t row_bytes = bytes_of(dy.dtype, {size});
    for (std::int64_t t = begin; t < end; ++t) {
      const auto* row = static_cast<const Byte*>(dy.data) + t * row_bytes;
      if (has_scales(dy.dtype)) {
        decode_row(primitives, dy.dtype, row, row + size, size, source);
      } else {
        const T* values = reinterpret_cast<const T*>(row);
        for (std::int64_t d = 0; d < size; ++d) source[d] = widen<float>(values[d]);
      }
      for (std::int64_t i = t * num_choices; i < (t + 1) * num_choices; ++i) {
        dweights[i] = 0;
        if (row_of[i] < 0) continue;
        dweights[i] = lane_dot<float>(source, rows + row_of[i] * size, size);
        for (std::int64_t d = 0; d < size; ++d) target[d] = weights[i] * source[d];
        drows.write(row_of[i], target);
      }
    }
  }
};

}  // namespace

void combine_backward(const Stream& stream, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                      const Tensor& row_of_MK, const Tensor& drows_RD, const Scaling& scaling,
                      const Tensor& dweights_MK, QuantizeStatistics* stats) {
  FOURMI_DOOR(combine_backward_scaled, stream, dy_MD, rows_RD, weights_MK, row_of_MK, drows_RD, scaling, dweights_MK,
              stats);
  const Span span(stream.timeline(), Work::combine, "combine_backward");
  const std::int64_t num_tokens = dy_MD.dim(0), size = dy_MD.dim(1), num_choices = row_of_MK.dim(1);
  FOURMI_CHECK(
      rows_RD.dim(1) == size && drows_RD.shape == rows_RD.shape && row_of_MK.dim(0) == num_tokens &&
          (dy_MD.dtype == rows_RD.dtype || dy_MD.dtype == DType::e4m3_rows || dy_MD.dtype == DType::mxe4m3_rows) &&
          weights_MK.num_elements() == row_of_MK.num_elements() &&
          dweights_MK.num_elements() == row_of_MK.num_elements(),
      "dy {} {}, rows {} {}, drows {}, weights {}, dweights {}, row_of {}", name_of(dy_MD.dtype),
      to_string(dy_MD.shape), name_of(rows_RD.dtype), to_string(rows_RD.shape), to_string(drows_RD.shape),
      to_string(weights_MK.shape), to_string(dweights_MK.shape), to_string(row_of_MK.shape));
  const ScaledRows drows(stream, drows_RD, scaling, stats);
  visit_input(rows_RD, "combine_backward", [&]<class T>(std::type_identity<T>) {
    run_scaled_rows(
        stream, stats, num_tokens, grain_of(size * num_choices),
        CombineBackward<T>{dy_MD, primitives(stream.isa()), rows_RD.as<T>(), weights_MK.as<float>(),
                           row_of_MK.as<std::int32_t>(), drows, dweights_MK.as<float>(), size, num_choices});
  });
}

}  // namespace fourmi
