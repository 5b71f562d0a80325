// Combine backward: a warp a choice, which reads its expert's row and the token's gradient once for both results. Bound
// by memory: reads R rows and M tokens (the choices of a token are neighbours, so that what the first one reads the
// others find in L1 or L2), writes R rows.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/row_threads.h"
#include "kernels/cuda/scaled_units.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/permute.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256, num_warps = threads / warp_size;

/// Of M * K choices, and what they weigh. A.
template <class A>
struct Choices {
  const std::int32_t* row_of;
  const A* weights;
  A* dweights;
  std::int64_t count;
  int num_choices;

  __device__ std::int64_t mine() const {
    return std::int64_t{blockIdx.x} * num_warps + static_cast<int>(threadIdx.x) / warp_size;
  }
  unsigned blocks() const { return num_blocks(count, num_warps, std::numeric_limits<std::int32_t>::max()); }
};

/// Vectors of n elements. drows may be the memory of rows: a lane has read what it writes.
template <class T, int n>
__global__ void __launch_bounds__(threads)
    backward(const T* __restrict__ dy, const T* rows, T* drows, Choices<Accumulator<T>> c, int num_vectors) {
  using A = Accumulator<T>;
  constexpr int ahead = 4;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t i = c.mine(), size = std::int64_t{num_vectors} * n;
  if (i >= c.count) return;
  const std::int32_t row_of = c.row_of[i];
  if (row_of < 0) {
    if (lane == 0) c.dweights[i] = 0;
    return;
  }
  const A weight = c.weights[i];
  dy += i / c.num_choices * size;
  rows += row_of * size;
  drows += row_of * size;
  A dot = 0;
  for (int first = lane; first < num_vectors; first += ahead * warp_size) {
    Vector<T, n> d[ahead], row[ahead];
#pragma unroll
    for (int j = 0; j < ahead; ++j) {
      const std::int64_t vector = first + j * warp_size;
      if (vector < num_vectors) d[j] = load<n>(dy + vector * n), row[j] = load<n>(rows + vector * n);
    }
#pragma unroll
    for (int j = 0; j < ahead; ++j) {
      const std::int64_t vector = first + j * warp_size;
      if (vector >= num_vectors) continue;
      A out[n];
#pragma unroll
      for (int k = 0; k < n; ++k) {
        dot = fma(widen<A>(d[j].value[k]), widen<A>(row[j].value[k]), dot);
        out[k] = weight * widen<A>(d[j].value[k]);
      }
      store_values(drows + vector * n, out);
    }
  }
  dot = lane_group_sum<warp_size>(dot);
  if (lane == 0) c.dweights[i] = dot;
}

/// Rows that a lane reads eight columns at a time, zeros behind the end. `load` fetches only, so that several are on
/// their way together. whole: eight columns never lie across the end, and begin at a vector.
template <class T, bool whole>
struct PlainRows {
  const T* data;
  int size;

  using Eight = Packed<T, 8>;
  __device__ Eight load(std::int64_t row, int column) const {
    const T* const from = data + row * size + column;
    if constexpr (whole) return column < size ? load_packed<8>(from) : Eight{};
    return load_some<8>(from, size - column);
  }
  __device__ static void widen(const Eight& x, float (&v)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = x.at(i);
  }
};

template <bool whole>
struct DecodedRows {
  ScaledRows rows;

  struct Eight {
    Vector<std::uint32_t, 2> q;
    float scale;
  };
  __device__ Eight load(std::int64_t row, int column) const {
    const std::uint8_t* const from = rows.data + row * rows.stride + column;
    Eight x{};
    if (column >= rows.size) return x;
    x.scale = load_scale(rows, row, column / rows.group());
    if constexpr (whole) {
      x.q = cuda::load<2>(reinterpret_cast<const std::uint32_t*>(from));  // rows begin at multiples of 16
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (column + i < rows.size) x.q.value[i / 4] |= std::uint32_t{from[i]} << (8 * (i % 4));
    }
    return x;
  }
  __device__ static void widen(const Eight& x, float (&v)[8]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float four[4];
      four_of_e4m3(x.q.value[half], four);
#pragma unroll
      for (int i = 0; i < 4; ++i) v[4 * half + i] = four[i] * x.scale;
    }
  }
};

/// A lane has eight columns of each of two runs of 256.
template <class Gradient, class Rows>
__global__ void __launch_bounds__(threads) backward_scaled(Gradient dy, Rows rows, ScaledRows drows, Choices<float> c) {
  constexpr int units = 2;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t i = c.mine();
  if (i >= c.count) return;
  const std::int32_t row_of = c.row_of[i];
  if (row_of < 0) {
    if (lane == 0) c.dweights[i] = 0;
    return;
  }
  const float weight = c.weights[i];
  const std::int64_t token = i / c.num_choices;
  float dot = 0;
  for (int first = 0; first < drows.size; first += units * 8 * warp_size) {  // all lanes together: they share groups
    int columns[units];
    typename Gradient::Eight gradient[units];
    typename Rows::Eight output[units];
#pragma unroll
    for (int u = 0; u < units; ++u) {
      columns[u] = first + (u * warp_size + lane) * 8;
      gradient[u] = dy.load(token, columns[u]);
      output[u] = rows.load(row_of, columns[u]);
    }
    float d[units][8];
#pragma unroll
    for (int u = 0; u < units; ++u) {
      float row[8];
      Gradient::widen(gradient[u], d[u]);
      Rows::widen(output[u], row);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        dot = fma(d[u][k], row[k], dot);
        d[u][k] = columns[u] + k < drows.size ? weight * d[u][k] : 0.0f;
      }
    }
    quantize_units(drows, row_of, columns, d);
  }
  dot = lane_group_sum<warp_size>(dot);
  if (lane == 0) c.dweights[i] = dot;
}

template <class A>
Choices<A> choices_of(const Tensor& row_of_MK, const Tensor& weights_MK, const Tensor& dweights_MK) {
  return {pointer<std::int32_t>(row_of_MK), pointer<A>(weights_MK), pointer<A>(dweights_MK), row_of_MK.num_elements(),
          static_cast<int>(row_of_MK.dim(1))};
}

template <class T>
bool has_whole_eights(const Tensor& x) {
  return is_vector_aligned<8>(pointer<T>(x), x.dim(1));
}

}  // namespace

void combine_backward(const Stream& stream, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                      const Tensor& row_of_MK, const Tensor& drows_RD, const Tensor& dweights_MK) {
  const Span span(stream.timeline(), Work::combine, "combine_backward");
  const std::int64_t size = dy_MD.dim(1);
  FOURMI_CHECK(rows_RD.dim(1) == size && drows_RD.dim(1) == size && row_of_MK.dim(0) == dy_MD.dim(0) &&
                   size <= std::numeric_limits<std::int32_t>::max(),
               "dy {}, rows {}, row_of {}, drows {}", to_string(dy_MD.shape), to_string(rows_RD.shape),
               to_string(row_of_MK.shape), to_string(drows_RD.shape));
  FOURMI_CHECK(dy_MD.dtype == rows_RD.dtype && drows_RD.dtype == rows_RD.dtype, "dy {}, rows {}, drows {}",
               name_of(dy_MD.dtype), name_of(rows_RD.dtype), name_of(drows_RD.dtype));
  FOURMI_CHECK(
      weights_MK.num_elements() == row_of_MK.num_elements() && dweights_MK.num_elements() == row_of_MK.num_elements(),
      "weights {}, dweights {}, row_of {}", to_string(weights_MK.shape), to_string(dweights_MK.shape),
      to_string(row_of_MK.shape));
  if (row_of_MK.num_elements() == 0) return;
  visit_float(dy_MD.dtype, "combine_backward", [&]<class T>(std::type_identity<T>) {
    const auto c = choices_of<Accumulator<T>>(row_of_MK, weights_MK, dweights_MK);
    const T *const dy = pointer<T>(dy_MD), *const rows = pointer<T>(rows_RD);
    T* const drows = pointer<T>(drows_RD);
    const auto run = [&]<int n>(std::integral_constant<int, n>) {
      launch(on(stream), backward<T, n>, c.blocks(), threads, 0, dy, rows, drows, c, size / n);
    };
    if (has_whole_vectors(dy, size) && has_whole_vectors(rows, size) && has_whole_vectors(drows, size))
      run(std::integral_constant<int, vector_length<T>>{});
    else
      run(std::integral_constant<int, 1>{});
  });
}

void combine_backward(const Stream& stream, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                      const Tensor& row_of_MK, const Tensor& drows_RD, const Scaling& scaling,
                      const Tensor& dweights_MK, QuantizeStatistics* stats) {
  const Span span(stream.timeline(), Work::combine, "combine_backward");
  FOURMI_CHECK(!stats, "statistics of a producer on a device");
  const std::int64_t num_tokens = dy_MD.dim(0), size = dy_MD.dim(1);
  FOURMI_CHECK(
      rows_RD.dim(1) == size && drows_RD.shape == rows_RD.shape && row_of_MK.dim(0) == num_tokens &&
          (dy_MD.dtype == rows_RD.dtype || dy_MD.dtype == DType::e4m3_rows || dy_MD.dtype == DType::mxe4m3_rows) &&
          weights_MK.num_elements() == row_of_MK.num_elements() &&
          dweights_MK.num_elements() == row_of_MK.num_elements() &&
          size <= std::numeric_limits<std::int32_t>::max() / 2,
      "dy {} {}, rows {} {}, drows {}, weights {}, dweights {}, row_of {}", name_of(dy_MD.dtype),
      to_string(dy_MD.shape), name_of(rows_RD.dtype), to_string(rows_RD.shape), to_string(drows_RD.shape),
      to_string(weights_MK.shape), to_string(dweights_MK.shape), to_string(row_of_MK.shape));
  if (row_of_MK.num_elements() == 0) return;
  const ScaledRows drows = scaled_rows(drows_RD, scaling);
  const auto c = choices_of<float>(row_of_MK, weights_MK, dweights_MK);
  const auto launch_for = [&](const auto& dy, const auto& rows) {
    launch(on(stream), backward_scaled<std::remove_cvref_t<decltype(dy)>, std::remove_cvref_t<decltype(rows)>>,
           c.blocks(), threads, 0, dy, rows, drows, c);
  };
  const auto run = [&]<class T>(std::type_identity<T>) {
    const auto with = [&]<bool whole>(std::bool_constant<whole>) {
      const PlainRows<T, whole> rows{pointer<T>(rows_RD), drows.size};
      if (has_scales(dy_MD.dtype))
        launch_for(DecodedRows<whole>{scaled_rows(dy_MD, {})}, rows);
      else
        launch_for(PlainRows<T, whole>{pointer<T>(dy_MD), drows.size}, rows);
    };
    if (has_whole_eights<T>(rows_RD) && (has_scales(dy_MD.dtype) || has_whole_eights<T>(dy_MD)))
      with(std::true_type{});
    else
      with(std::false_type{});
  };
  if (rows_RD.dtype == DType::f32) return run(std::type_identity<float>{});
  FOURMI_CHECK(rows_RD.dtype == DType::bf16, "combine_backward of {}", name_of(rows_RD.dtype));
  run(std::type_identity<bfloat16>{});
}

}  // namespace fourmi::cuda
