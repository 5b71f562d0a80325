// y = x w^T of e4m3 operands with scales (promoted_sums.h). Rows' scales lie beside their elements and come as boxes of
// four steps; a panel's alike. Promotion: total = fma(x's scale * w's, sum, total).
//
// Floor: 2 M N K operations at 1979 Tflop/s (8192 a cycle and multiprocessor). Per step a tile of two panels takes 1024
// cycles of the tensor cores, reads 48 KiB from L2 (the nearest bound where that gives less than 48 bytes a cycle to
// each multiprocessor) and moves 144 KiB through shared memory (1152 cycles: so at best 89% of the peak).
#include "kernels/cuda/hopper/fits.h"
#include "kernels/cuda/hopper/fp8_gemm.h"
#include "kernels/cuda/hopper/promoted_sums.h"
#include "kernels/cuda/hopper/tiles.h"
#include "kernels/cuda/launch.h"

namespace fourmi::cuda::hopper {
namespace {

template <int most_panels, class Y>
struct Product : ProductTiles<most_panels, Y> {
  using Base = ProductTiles<most_panels, Y>;
  using Base::N, Base::K;
  using Math = PromotedSums;
  TensorMap x, x_scales, w, w_tail;  // w_tail: the last panel of each matrix where it is not a whole one
  const std::byte* w_bytes;
  std::int64_t panel_stride, matrix_stride;

  static constexpr Stages stages() { return product_stages(most_panels); }
  __device__ void prefetch_maps() const { prefetch(&x), prefetch(&x_scales), prefetch(&w), prefetch(&w_tail); }
  __device__ int steps(const GroupTable&, const Tile&) const { return blocks_of(K, step); }

  __device__ void load_step(const GroupTable&, const Tile& tile, int count, int k, std::byte* shared, int stage,
                            Barrier* full) const {
    load_box(&x, shared + stages().rows(stage), full, k * step, tile.row);
#pragma unroll
    for (int p = 0; p < most_panels; ++p) {
      if (p >= count) continue;
      std::byte* const to = shared + stages().panel(stage, p);
      const int panel = tile.panel + p;
      if (panel < N / panel_columns)
        load_box(&w, to, full, k * step, 0, panel, tile.group);
      else
        load_box(&w_tail, to, full, k * step, 0, tile.group);
    }
  }
  __device__ void load_scales(const GroupTable&, const Tile& tile, int count, int k, std::byte* shared, int entry,
                              Barrier* full) const {
    load_box(&x_scales, shared + stages().row_scales(entry), full, k, tile.row);
#pragma unroll
    for (int p = 0; p < most_panels; ++p) {
      if (p >= count) continue;
      const int panel = tile.panel + p, rows = min(panel_columns, N - panel * panel_columns);
      const std::byte* const from =
          w_bytes + tile.group * matrix_stride + panel * panel_stride + std::int64_t{rows} * K;
      load_bytes(from + 4 * k, shared + stages().panel_scales(entry, p), full, 16);
    }
  }

  struct Scales {
    float upper, lower, panel[most_panels];
  };
  __device__ Scales scales(const std::byte* shared, int entry, int k, int lane_row) const {
    const int at = k % stages().steps_of_scales;
    const auto* const rows = reinterpret_cast<const float*>(shared + stages().row_scales(entry)) + at;
    Scales s{rows[4 * lane_row], rows[4 * (lane_row + 8)], {}};
#pragma unroll
    for (int p = 0; p < most_panels; ++p)
      s.panel[p] = reinterpret_cast<const float*>(shared + stages().panel_scales(entry, p))[at];
    return s;
  }
  __device__ static void promote(float (&total)[64], const float (&sum)[64], const Scales& s, int p) {
    const float upper = s.upper * s.panel[p], lower = s.lower * s.panel[p];
#pragma unroll
    for (int i = 0; i < 64; ++i) total[i] = __fmaf_rn(i % 4 < 2 ? upper : lower, sum[i], total[i]);
  }
};

template <int most_panels, class Y>
void launch_product(const CudaStream& stream, const Fp8Product& p, const Plan& plan) {
  constexpr auto u8 = MappedTensor::Element::u8, f32 = MappedTensor::Element::f32;
  const std::int64_t row_bytes = ScaledFormat::row_bytes(DType::e4m3_rows, p.K);
  const std::int64_t panel_stride = ScaledFormat::panel_bytes(panel_columns, p.K);
  const std::int64_t matrix_stride = ScaledFormat::panel_bytes(p.N, p.K);
  const std::int64_t whole = p.N / panel_columns, tail = p.N % panel_columns;
  const auto* const x = static_cast<const std::byte*>(p.x);
  const auto* const w = static_cast<const std::byte*>(p.w);
  const MappedTensor rows{x, u8, 2, {p.K, p.M}, {row_bytes}, {step, tile_rows}, Swizzle::span_128};
  const MappedTensor row_scales{x + p.K, f32, 2, {ScaledFormat::num_blocks(p.K), p.M}, {row_bytes}, {4, tile_rows}};
  const MappedTensor panels{w,
                            u8,
                            4,
                            {p.K, panel_columns, whole, p.groups},
                            {p.K, panel_stride, matrix_stride},
                            {step, panel_columns, 1, 1},
                            Swizzle::span_128};
  const MappedTensor last{
      w + whole * panel_stride, u8, 3, {p.K, tail, p.groups}, {p.K, matrix_stride}, {step, panel_columns, 1},
      Swizzle::span_128};
  const TensorMap w_map = encode(whole > 0 ? panels : last);
  const Product<most_panels, Y> work{{tile_sizes(p, plan), static_cast<Y*>(p.y), static_cast<const Y*>(p.residual)},
                                     encode(rows),
                                     encode(row_scales),
                                     w_map,
                                     tail > 0 ? encode(last) : w_map,
                                     w,
                                     panel_stride,
                                     matrix_stride};
  launch(stream, multiply<Product<most_panels, Y>>, static_cast<unsigned>(plan.blocks), threads,
         product_stages(most_panels).bytes(), work);
}

}  // namespace

bool fits(const Fp8Product& p) {
  return fits(ProductSizes{p.M, p.N, p.K, p.groups, p.dtype}) && (p.offsets || p.groups == 1) &&
         are_aligned(p.x, p.w, p.y, p.residual);
}

void fp8_product(const CudaStream& stream, const Fp8Product& p) {
  check_card(stream);
  FOURMI_CHECK(fits(p), "{} x {} x {} in {} groups for Hopper's products", p.M, p.N, p.K, p.groups);
  if (p.M == 0) return;
  const Plan plan = plan_product(p.M, p.N, p.groups, stream.card().num_multiprocessors);
  const bool is_wide = plan.panels == 2;
  if (p.dtype == DType::bf16)
    is_wide ? launch_product<2, bfloat16>(stream, p, plan) : launch_product<1, bfloat16>(stream, p, plan);
  else
    is_wide ? launch_product<2, float>(stream, p, plan) : launch_product<1, float>(stream, p, plan);
}

}  // namespace fourmi::cuda::hopper
