// dw += dy^T x of e4m3 operands whose scales are per column and 128 rows (promoted_sums.h). Tokens are what is summed,
// and contiguous. Promotion: total = fma(dy's scale * x's, sum, total), an own factor for each element. A matrix
// without tokens is left alone.
//
// Floor: 2 M N K operations at 1979 Tflop/s (per step as in fp8_gemm.cu), and dw is read and written once: 8 bytes an
// element, which is more where a matrix has less than about 1700 tokens (8 / 4.3e12 against 2 M / 1.98e15 seconds).
#include "kernels/cuda/hopper/fits.h"
#include "kernels/cuda/hopper/fp8_gemm.h"
#include "kernels/cuda/hopper/promoted_sums.h"
#include "kernels/cuda/hopper/tiles.h"
#include "kernels/cuda/launch.h"

namespace fourmi::cuda::hopper {
namespace {

template <int most_panels>
struct Gradient : GradientTiles<most_panels, step> {
  using Math = PromotedSums;
  TensorMap dy, x, dy_scales, x_scales;

  static constexpr Stages stages() { return gradient_stages(most_panels); }
  __device__ void prefetch_maps() const { prefetch(&dy), prefetch(&x), prefetch(&dy_scales), prefetch(&x_scales); }

  __device__ void load_step(const GroupTable& table, const Tile& tile, int count, int k, std::byte* shared, int stage,
                            Barrier* full) const {
    const int token = (table.first[tile.group] + k) * step;
    load_box(&dy, shared + stages().rows(stage), full, token, tile.row);
#pragma unroll
    for (int p = 0; p < most_panels; ++p)
      if (p < count) load_box(&x, shared + stages().panel(stage, p), full, token, (tile.panel + p) * panel_columns);
  }
  __device__ void load_scales(const GroupTable& table, const Tile& tile, int count, int k, std::byte* shared, int entry,
                              Barrier* full) const {
    const int group = table.first[tile.group] + k;
    load_box(&dy_scales, shared + stages().row_scales(entry), full, tile.row, group);
#pragma unroll
    for (int p = 0; p < most_panels; ++p)
      if (p < count)
        load_box(&x_scales, shared + stages().panel_scales(entry, p), full, (tile.panel + p) * panel_columns, group);
  }

  struct Scales {
    float upper, lower;
    const float* columns;  ///< of this lane's first two; those of the next panel lie behind
  };
  __device__ Scales scales(const std::byte* shared, int entry, int, int lane_row) const {
    const auto* const rows = reinterpret_cast<const float*>(shared + stages().row_scales(entry));
    const auto* const columns = reinterpret_cast<const float*>(shared + stages().panel_scales(entry, 0));
    return {rows[lane_row], rows[lane_row + 8], columns + threadIdx.x % 4 * 2};
  }
  __device__ static void promote(float (&total)[64], const float (&sum)[64], const Scales& s, int p) {
#pragma unroll
    for (int i = 0; i < 64; i += 4) {
      const Vector<float, 2> columns = load<2>(s.columns + p * panel_columns + 2 * i);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        total[i + j] = __fmaf_rn((j < 2 ? s.upper : s.lower) * columns.value[j % 2], sum[i + j], total[i + j]);
    }
  }
};

template <int most_panels>
void launch_gradient(const CudaStream& stream, const Fp8Gradient& g, const Plan& plan) {
  constexpr auto u8 = MappedTensor::Element::u8, f32 = MappedTensor::Element::f32;
  const auto elements = [&](const void* data, std::int64_t channels, int at_once) {
    return encode({data, u8, 2, {g.S, channels}, {g.S}, {step, at_once}, Swizzle::span_128});
  };
  const auto scales = [&](const float* data, std::int64_t channels, int at_once) {
    return encode({data, f32, 2, {channels, g.S / step}, {4 * channels}, {at_once, 1}});
  };
  const Gradient<most_panels> work{{tile_sizes(g, plan), g.dw},
                                   elements(g.dy, g.N, tile_rows),
                                   elements(g.x, g.K, panel_columns),
                                   scales(g.dy_scales, g.N, tile_rows),
                                   scales(g.x_scales, g.K, panel_columns)};
  launch(stream, multiply<Gradient<most_panels>>, static_cast<unsigned>(plan.blocks), threads,
         gradient_stages(most_panels).bytes(), work);
}

}  // namespace

bool fits(const Fp8Gradient& g) {
  return fits(GradientSizes{g.M, g.N, g.K, g.S, g.groups}) && (g.offsets || g.groups == 1) &&
         are_aligned(g.dy, g.x, g.dy_scales, g.x_scales, g.dw);
}

void fp8_gradient(const CudaStream& stream, const Fp8Gradient& g) {
  check_card(stream);
  FOURMI_CHECK(fits(g), "{} x {} over {} rows ({} places) in {} groups for Hopper's products", g.N, g.K, g.M, g.S,
               g.groups);
  if (g.M == 0) return;
  const Plan plan = plan_gradient(g.N, g.K, g.groups, stream.card().num_multiprocessors);
  plan.panels == 2 ? launch_gradient<2>(stream, g, plan) : launch_gradient<1>(stream, g, plan);
}

}  // namespace fourmi::cuda::hopper
