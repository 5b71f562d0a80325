// Eight neighbouring elements that a lane takes from floats to e4m3, the scales of runs, and how rows are dealt out to
// warps: what the quantisers of whole tensors have in common. For .cu files.
#pragma once

#include "kernels/cuda/float8_instructions.h"
#include "kernels/cuda/scaled_groups.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {

/// Calls f with the type of x: float or bfloat16.
template <class F>
void visit_quantized(const Tensor& x, const char* what, const F& f) {
  if (x.dtype == DType::f32) return f(std::type_identity<float>{});
  FOURMI_CHECK(x.dtype == DType::bf16, "{} of {}", what, name_of(x.dtype));
  f(std::type_identity<bfloat16>{});
}

/// Calls f with a value that is known where it is compiled.
template <class F>
void visit_bool(bool b, const F& f) {
  b ? f(std::true_type{}) : f(std::false_type{});
}

/// All dims but the last.
inline std::int64_t num_rows(const Tensor& t) {
  FOURMI_CHECK(t.shape.rank >= 1, "rows of a scalar");
  const std::int64_t K = t.dim(t.shape.rank - 1);
  return K == 0 ? 0 : t.num_elements() / K;
}

inline void check_quantized(const Tensor& x, const Tensor& q, const char* what) {
  FOURMI_CHECK(has_scales(q.dtype) && q.shape == x.shape, "{}: x {} {}, q {} {}", what, name_of(x.dtype),
               to_string(x.shape), name_of(q.dtype), to_string(q.shape));
  FOURMI_CHECK(q.dtype == DType::e4m3_panels || reinterpret_cast<std::uintptr_t>(q.data) % 16 == 0,
               "{}: rows with scales begin at multiples of 16 bytes", what);
}

/// Eight elements as they lie in memory: bf16 stay two in a register.
template <class X>
struct Eight {
  std::uint32_t word[2 * sizeof(X)];
};

/// From the `valid`-th on zeros. `whole`: all rows' eights are aligned, and all are there or none is.
template <bool whole, class X>
__device__ Eight<X> take_eight(const X* from, int valid) {
  Eight<X> e{};
  if constexpr (whole) {
    if (valid <= 0) return e;
    const auto* const words = reinterpret_cast<const std::uint32_t*>(from);
#pragma unroll
    for (int part = 0; part < static_cast<int>(sizeof(X)) / 2; ++part) {
      const Vector<std::uint32_t, 4> v = load<4>(words + 4 * part);
#pragma unroll
      for (int i = 0; i < 4; ++i) e.word[4 * part + i] = v.value[i];
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const std::uint32_t bits = i < valid ? __float_as_uint(widen<float>(from[i])) : 0;
      if constexpr (sizeof(X) == 4)
        e.word[i] = bits;
      else
        e.word[i / 2] |= i % 2 ? bits : bits >> 16;
    }
  }
  return e;
}

template <class X>
__device__ float element(const Eight<X>& e, int i) {
  if constexpr (sizeof(X) == 4) return __uint_as_float(e.word[i]);
  return __uint_as_float(i % 2 ? e.word[i / 2] & 0xffff0000u : e.word[i / 2] << 16);
}

template <class X>
__device__ std::uint32_t largest_bits(const Eight<X>& e) {
  std::uint32_t most = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const std::uint32_t bits = magnitude_bits(element(e, i));
    most = most > bits ? most : bits;
  }
  return most;
}

/// Eight bytes. Under a scale that is not a number all are 0x7f: the inverse makes them so.
template <class X>
__device__ Vector<std::uint32_t, 2> encode_eight(const Eight<X>& e, float inverse) {
  Vector<std::uint32_t, 2> bytes;
#pragma unroll
  for (int half = 0; half < 2; ++half)
    bytes.value[half] = e4m3_of_four(element(e, 4 * half) * inverse, element(e, 4 * half + 1) * inverse,
                                     element(e, 4 * half + 2) * inverse, element(e, 4 * half + 3) * inverse);
  return bytes;
}

/// Those of the eight that are below the row's end. `aligned`: eights lie at multiples of 8 bytes.
template <bool aligned>
__device__ void store_bytes(std::uint8_t* to, int valid, const Vector<std::uint32_t, 2>& bytes) {
  if (aligned && valid >= 8) {
    store<2>(reinterpret_cast<std::uint32_t*>(to), bytes);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < valid) to[i] = static_cast<std::uint8_t>(bytes.value[i / 4] >> (8 * (i % 4)));
  }
}

/// Four bytes at any address.
__device__ inline void store_four(std::uint8_t* to, std::uint32_t bits) {
  if (reinterpret_cast<std::uintptr_t>(to) % 4 == 0) {
    *reinterpret_cast<std::uint32_t*>(to) = bits;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = static_cast<std::uint8_t>(bits >> (8 * i));
  }
}
__device__ inline std::uint32_t load_four(const std::uint8_t* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % 4 == 0) return *reinterpret_cast<const std::uint32_t*>(from);
  return from[0] | std::uint32_t{from[1]} << 8 | std::uint32_t{from[2]} << 16 | std::uint32_t{from[3]} << 24;
}

/// The last of `count` + 1 ascending borders, the end's not among them, that is not above x.
__device__ inline int last_not_above(const std::int32_t* borders, int count, std::int64_t x) {
  int low = 0, high = count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (borders[middle] <= x ? low : high) = middle;
  }
  return low;
}

/// The same of a whole warp, whose lanes all have the same x: they look at 32 borders at a time.
__device__ inline int last_not_above_of_warp(const std::int32_t* borders, int count, std::int64_t x) {
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  int low = 0;
  while (count > 1) {  // it is among `count` from `low` on
    const int step = (count + warp_size - 1) / warp_size, at = lane * step;
    const unsigned not_above = __ballot_sync(all_lanes, at < count && borders[low + at] <= x);
    const int last = max(__popc(not_above) - 1, 0) * step;
    low += last;
    count = min(step, count - last);
  }
  return low;
}

/// Scales that runs of rows got: run i is rows [borders[i], borders[i + 1]).
struct GivenScales {
  const std::int32_t* borders = nullptr;
  const float* amax = nullptr;
  int count = 0;
  ScaleKind kind = ScaleKind::f32;
  std::uint32_t floor = 0;

  /// Of a whole warp.
  __device__ int run_of(std::int64_t row) const { return last_not_above_of_warp(borders, count, row); }
  __device__ GroupScale of_run(int run) const {
    const std::uint32_t bits = magnitude_bits(amax[run]);
    return scale_of_bits(bits > floor ? bits : floor, kind);
  }
};

/// Rows in pieces of what 32 lanes take, numbered row after row. A warp takes four that follow one another, so that as
/// many loads are under way.
struct RowPieces {
  static constexpr int threads = 256, of_warp = 4, of_block = threads / warp_size * of_warp;
  std::int64_t first_row;
  std::uint32_t of_row, total;
  int width;  ///< columns of a piece

  RowPieces(std::int64_t first, std::int64_t rows, std::int64_t columns, int piece)
      : first_row(first), of_row(static_cast<std::uint32_t>(ceil_div(columns, piece))), width(piece) {
    const std::int64_t all = rows * of_row;
    FOURMI_CHECK(all < std::int64_t{1} << 31, "{} rows of {}", rows, columns);
    total = static_cast<std::uint32_t>(all);
  }
  unsigned num_blocks() const { return (total + of_block - 1) / of_block; }

  struct Place {
    std::int64_t row;
    std::uint32_t piece;
  };
  /// The first piece of the warp of this thread; it may lie behind the last.
  __device__ static std::uint32_t first() {
    return (blockIdx.x * (threads / warp_size) + threadIdx.x / warp_size) * of_warp;
  }
  __device__ Place place(std::uint32_t i) const { return {first_row + i / of_row, i % of_row}; }
  __device__ void step(Place& p) const {
    if (++p.piece == of_row) p.piece = 0, ++p.row;
  }
};

}  // namespace fourmi::cuda
