// Linear maps without scales, of any shape. bf16: the matrix units by mma.sync, which reach about 0.6 of what Hopper's
// own instructions do. Floor: 2 M N K operations at 0.6 of 990 Tflop/s, or M K + N K + M N elements moved once. f64 and
// f32: linear_fma.cu.
#include "kernels/cuda/linear_mma.h"

namespace fourmi::cuda::linear {
namespace {

template <bool along_>
struct Bf16Side {
  static constexpr bool along = along_, promotes = false;
  static constexpr int length = 8;
  using Raw = Vector<std::uint32_t, 4>;
  Matrix<bfloat16, along> matrix;

  __device__ void place(const Product& p) { matrix.place(p); }
  __device__ Raw fetch(int row, int column, int valid) const {
    const auto* const elements = reinterpret_cast<const std::uint16_t*>(matrix.data);
    return load_words<length>(elements + std::int64_t{row} * matrix.stride + column, valid, matrix.aligned);
  }
  static __device__ Raw eight_halves(const Raw& raw, int) { return raw; }
};

template <Map map>
void run_bf16(const CudaStream& stream, const Problem& p) {
  constexpr bool first_along = map != Map::backward_weight, second_along = map == Map::forward;
  visit_output<map>(p, [&]<class Y>(std::type_identity<Y>) {
    launch_multiply<Y>(stream, p, Bf16Side<first_along>{first_of<bfloat16, first_along>(p)},
                       Bf16Side<second_along>{second_of<bfloat16, second_along>(p)}, 0);
  });
}

}  // namespace

void run_plain(const CudaStream& stream, const Problem& p) {
  if (p.input != Input::bf16) return run_fma(stream, p);
  switch (p.map) {
    case Map::forward:
      return run_bf16<Map::forward>(stream, p);
    case Map::backward_input:
      return run_bf16<Map::backward_input>(stream, p);
    case Map::backward_weight:
      return run_bf16<Map::backward_weight>(stream, p);
  }
}

}  // namespace fourmi::cuda::linear
