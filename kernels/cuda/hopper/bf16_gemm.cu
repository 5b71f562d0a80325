// y = x w^T, and y = x w of a turned w, of bf16 operands (whole_sums.h). Rows of x lie along the sum; so do those of w,
// or its columns are contiguous and come as slabs of 64 (operand.h), so that no copy of a weight is needed for dx.
//
// Floor: 2 M N K operations at 989 Tflop/s (4096 a cycle and multiprocessor). Per step a tile of two panels takes 1024
// cycles of the tensor cores, reads 48 KiB from L2 and moves 128 KiB through shared memory: 48 come, and each
// warpgroup reads its 8 of rows and all 32 of panels. That is 1024 cycles as well.
#include "kernels/cuda/hopper/bf16_gemm.h"
#include "kernels/cuda/hopper/fits.h"
#include "kernels/cuda/hopper/tiles.h"
#include "kernels/cuda/hopper/whole_sums.h"
#include "kernels/cuda/launch.h"

namespace fourmi::cuda::hopper {
namespace {

template <int most_panels, Along along_w, class Y>
struct Product : ProductTiles<most_panels, Y> {
  using Base = ProductTiles<most_panels, Y>;
  using Base::K;
  using Math = WholeSums;
  static constexpr Along along_rows = Along::sum, along_panels = along_w;
  static constexpr bool clears = false;  // behind the sum's end there is nothing, which is read as zeros
  TensorMap x, w;

  static constexpr Stages stages() { return bf16_stages(most_panels); }
  __device__ void prefetch_maps() const { prefetch(&x), prefetch(&w); }
  __device__ int length(const GroupTable&, const Tile&) const { return K; }
  __device__ int steps(const GroupTable&, const Tile&) const { return blocks_of(K, bf16_step); }

  __device__ void load_step(const GroupTable&, const Tile& tile, int count, int k, std::byte* shared, int stage,
                            Barrier* full) const {
    load_box(&x, shared + stages().rows(stage), full, k * bf16_step, tile.row);
#pragma unroll
    for (int p = 0; p < most_panels; ++p) {
      if (p >= count) continue;
      std::byte* const to = shared + stages().panel(stage, p);
      const int column = (tile.panel + p) * panel_columns;
      if constexpr (along_w == Along::sum)
        load_box(&w, to, full, k * bf16_step, column, tile.group);
      else
        for (int slab = 0; slab < panel_columns / slab_lines; ++slab)
          load_box(&w, to + slab * slab_bytes, full, column + slab * slab_lines, k * bf16_step, tile.group);
    }
  }
};

template <int most_panels, Along along_w, class Y>
void launch_product(const CudaStream& stream, const Bf16Product& p, const Plan& plan) {
  constexpr auto bf16 = MappedTensor::Element::bf16;
  const MappedTensor rows{p.x, bf16, 2, {p.K, p.M}, {2 * p.K}, {bf16_step, tile_rows}, Swizzle::span_128};
  const MappedTensor lines{
      p.w, bf16, 3, {p.K, p.N, p.groups}, {2 * p.K, 2 * p.K * p.N}, {bf16_step, panel_columns, 1}, Swizzle::span_128};
  const MappedTensor slabs{
      p.w, bf16, 3, {p.N, p.K, p.groups}, {2 * p.N, 2 * p.K * p.N}, {slab_lines, bf16_step, 1}, Swizzle::span_128};
  using Work = Product<most_panels, along_w, Y>;
  const Work work{{tile_sizes(p, plan), static_cast<Y*>(p.y), static_cast<const Y*>(p.residual)},
                  encode(rows),
                  encode(along_w == Along::sum ? lines : slabs)};
  launch(stream, multiply<Work>, static_cast<unsigned>(plan.blocks), threads, Work::stages().bytes(), work);
}

template <Along along_w, class Y>
void launch_product(const CudaStream& stream, const Bf16Product& p) {
  const Plan plan = plan_product(p.M, p.N, p.groups, stream.card().num_multiprocessors);
  plan.panels == 2 ? launch_product<2, along_w, Y>(stream, p, plan) : launch_product<1, along_w, Y>(stream, p, plan);
}

}  // namespace

bool fits(const Bf16Product& p) {
  return bf16_fits(ProductSizes{p.M, p.N, p.K, p.groups, p.dtype}) && (p.offsets || p.groups == 1) &&
         are_aligned(p.x, p.w, p.y, p.residual);
}

void bf16_product(const CudaStream& stream, const Bf16Product& p) {
  check_card(stream);
  FOURMI_CHECK(fits(p), "{} x {} x {} in {} groups for Hopper's products", p.M, p.N, p.K, p.groups);
  if (p.M == 0) return;
  if (p.dtype == DType::bf16)
    p.turned ? launch_product<Along::lines, bfloat16>(stream, p) : launch_product<Along::sum, bfloat16>(stream, p);
  else
    p.turned ? launch_product<Along::lines, float>(stream, p) : launch_product<Along::sum, float>(stream, p);
}

}  // namespace fourmi::cuda::hopper
