// dw += dy^T x of bf16 operands (whole_sums.h). Tokens are what is summed, and what is contiguous are features: both
// operands come as slabs of 64 features (operand.h). A group's last step may bring tokens of the next group, or of
// nobody: in shared memory they become zeros. A matrix without tokens is left alone.
//
// Floor: 2 M N K operations at 989 Tflop/s (per step as in bf16_gemm.cu), and dw is read and written once: 8 bytes an
// element, which is more where a matrix has less than about 920 tokens (8 / 4.3e12 against 2 M / 989e12 seconds).
#include "kernels/cuda/hopper/bf16_gemm.h"
#include "kernels/cuda/hopper/fits.h"
#include "kernels/cuda/hopper/tiles.h"
#include "kernels/cuda/hopper/whole_sums.h"
#include "kernels/cuda/launch.h"

namespace fourmi::cuda::hopper {
namespace {

template <int most_panels>
struct Gradient : GradientTiles<most_panels, bf16_step> {
  using Math = WholeSums;
  static constexpr Along along_rows = Along::lines, along_panels = Along::lines;
  static constexpr bool clears = true;
  TensorMap dy, x;

  static constexpr Stages stages() { return bf16_stages(most_panels); }
  __device__ void prefetch_maps() const { prefetch(&dy), prefetch(&x); }
  __device__ int length(const GroupTable& table, const Tile& tile) const {
    return table.row[tile.group + 1] - table.row[tile.group];
  }

  __device__ void load_step(const GroupTable& table, const Tile& tile, int count, int k, std::byte* shared, int stage,
                            Barrier* full) const {
    const int token = table.row[tile.group] + k * bf16_step;
    constexpr int slabs = panel_columns / slab_lines;
    static_assert(tile_rows == panel_columns);
#pragma unroll
    for (int i = 0; i < slabs; ++i)
      load_box(&dy, shared + stages().rows(stage) + i * slab_bytes, full, tile.row + i * slab_lines, token);
#pragma unroll
    for (int i = 0; i < most_panels * slabs; ++i)
      if (i < count * slabs)
        load_box(&x, shared + stages().panel(stage, 0) + i * slab_bytes, full,
                 tile.panel * panel_columns + i * slab_lines, token);
  }
};

template <int most_panels>
void launch_gradient(const CudaStream& stream, const Bf16Gradient& g, const Plan& plan) {
  const auto slabs = [&](const void* data, std::int64_t features) {
    return encode({data,
                   MappedTensor::Element::bf16,
                   2,
                   {features, g.M},
                   {2 * features},
                   {slab_lines, bf16_step},
                   Swizzle::span_128});
  };
  using Work = Gradient<most_panels>;
  const Work work{{tile_sizes(g, plan), g.dw}, slabs(g.dy, g.N), slabs(g.x, g.K)};
  launch(stream, multiply<Work>, static_cast<unsigned>(plan.blocks), threads, Work::stages().bytes(), work);
}

}  // namespace

bool fits(const Bf16Gradient& g) {
  return bf16_fits(GradientSizes{.M = g.M, .N = g.N, .K = g.K, .groups = g.groups}) && (g.offsets || g.groups == 1) &&
         are_aligned(g.dy, g.x, g.dw);
}

void bf16_gradient(const CudaStream& stream, const Bf16Gradient& g) {
  check_card(stream);
  FOURMI_CHECK(fits(g), "{} x {} over {} rows in {} groups for Hopper's products", g.N, g.K, g.M, g.groups);
  if (g.M == 0) return;
  const Plan plan = plan_gradient(g.N, g.K, g.groups, stream.card().num_multiprocessors);
  plan.panels == 2 ? launch_gradient<2>(stream, g, plan) : launch_gradient<1>(stream, g, plan);
}

}  // namespace fourmi::cuda::hopper
