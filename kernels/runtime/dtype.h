// Element types. The dtype is a run-time value at the door of an operation; templates live inside the .cpp.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>

#include "kernels/numerics/bfloat16.h"

namespace fourmi {

using int128 = __int128;
using uint128 = unsigned __int128;

enum class DType : std::uint8_t {
  f64,
  f32,
  bf16,
  fx128,  ///< signed 128-bit fixed point, unit 2^-64: exact sums of FP32 partials (docs/numerics.md L3)
  i64,
  i32,
  u8,
  // FP8 elements that share scales (docs/precision.md). A scale lies beside its elements, so that whoever moves rows
  // (panels) moves both; how many bytes these are depends on the shape: bytes_of in tensor.h.
  e4m3_rows,    ///< a scale (f32) for each 1 x 128 of the last dim
  e4m3_panels,  ///< a scale (f32) for each 128 x 128 of the last two dims
  mxe4m3_rows,  ///< a scale (e8m0) for each 1 x 32 of the last dim
};

constexpr bool has_scales(DType d) {
  return d >= DType::e4m3_rows;
}

/// Bytes of one element; throws for a dtype with scales.
constexpr std::int64_t size_of(DType d) {
  switch (d) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::fx128:
      return 16;
    case DType::u8:
      return 1;
    case DType::e4m3_rows:
    case DType::e4m3_panels:
    case DType::mxe4m3_rows:
      break;
  }
  throw std::logic_error("an element of a dtype with scales has no size of its own");
}

constexpr std::string_view name_of(DType d) {
  switch (d) {
    case DType::f64:
      return "f64";
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::fx128:
      return "fx128";
    case DType::i64:
      return "i64";
    case DType::i32:
      return "i32";
    case DType::u8:
      return "u8";
    case DType::e4m3_rows:
      return "e4m3_rows";
    case DType::e4m3_panels:
      return "e4m3_panels";
    case DType::mxe4m3_rows:
      return "mxe4m3_rows";
  }
  return "?";
}

/// The dtype in which sums over elements of `d` are formed: f64 for f64, else f32.
constexpr DType accumulate_dtype(DType d) {
  return d == DType::f64 ? DType::f64 : DType::f32;
}

/// dtype_of<T>: the DType of a C++ type. Accumulator<T>: the C++ type of its sums.
template <class T>
constexpr DType dtype_of = DType::u8;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<bfloat16> = DType::bf16;
template <>
inline constexpr DType dtype_of<int128> = DType::fx128;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::i64;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::i32;

template <class T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

}  // namespace fourmi
