// Linear maps as cuBLASLt sees them: a pure function of what the call is, so that a test can ask it for any shape.
//
// cuBLASLt's matrices are column-major, ours row-major: a tensor [R, C] is its matrix of C rows and R columns. So what
// we call y = x w^T is d = a^T b with a = w, b = x, d = y, and our second argument always is its a.
#pragma once

#include <compare>
#include <cstdint>

#include "kernels/cuda/linear_choice.h"
#include "kernels/runtime/tensor.h"

namespace fourmi::cuda::library {

enum class Element : std::uint8_t { bf16, f32, e4m3 };
constexpr std::int64_t size_of(Element e) {
  return e == Element::f32 ? 4 : e == Element::bf16 ? 2 : 1;
}

/// Column j begins j * stride elements behind the first.
struct Matrix {
  Element element = Element::bf16;
  std::int64_t rows = 0, columns = 0, stride = 0;
  auto operator<=>(const Matrix&) const = default;
};

/// How the 128 elements of a sum that share a scale do so with their neighbours.
enum class Scales : std::uint8_t {
  none,
  lines,    ///< each line along the sum has its own: [ceil(sum / 128)][lines]
  squares,  ///< 128 lines share them: [ceil(lines / 128)][ceil(sum / 128) rounded up to 4]
};

/// d = op(a) op(b), or d = c + op(a) op(b) where c has d's shape. Sums are in f32.
struct Matmul {
  Matrix a, b, d;
  bool transposed_a = false, transposed_b = false;
  Scales a_scales = Scales::none, b_scales = Scales::none;
  auto operator<=>(const Matmul&) const = default;
};

/// Of a linear map without groups and without scales.
constexpr Matmul matmul_of(const linear::Descriptor& d) {
  const Element out = d.out == DType::f32 ? Element::f32 : Element::bf16;
  const auto M = d.num_rows, N = d.num_out, K = d.num_in;
  Matmul m;
  const Matrix x{Element::bf16, K, M, K}, w{Element::bf16, K, N, K}, y{Element::bf16, N, M, N};
  switch (d.map) {
    case linear::Map::forward:
      m.a = w, m.transposed_a = true;
      m.b = x;
      m.d = {out, N, M, N};
      break;
    case linear::Map::backward_input:
      m.a = w, m.b = y;
      m.d = {out, K, M, K};
      break;
    case linear::Map::backward_weight:
      m.a = x;
      m.b = y, m.transposed_b = true;
      m.d = {out, K, N, K};
      break;
  }
  return m;
}

/// y[M, N] = x[M, K] w[N, K]^T, x e4m3_rows, w its elements in rows of K bytes (fp8_peer.h).
constexpr Matmul matmul_of_scaled(std::int64_t M, std::int64_t N, std::int64_t K, DType out) {
  Matmul m;
  m.a = {Element::e4m3, K, N, K}, m.transposed_a = true, m.a_scales = Scales::squares;
  m.b = {Element::e4m3, K, M, ScaledFormat::row_bytes(DType::e4m3_rows, K)}, m.b_scales = Scales::lines;
  m.d = {out == DType::f32 ? Element::f32 : Element::bf16, N, M, N};
  return m;
}
/// dw[N, K] += dy^T x with dy [N, S] and x [K, S] as ColumnScaled lie on a card.
constexpr Matmul matmul_of_columns(std::int64_t N, std::int64_t K, std::int64_t S) {
  Matmul m;
  m.a = {Element::e4m3, S, K, S}, m.transposed_a = true, m.a_scales = Scales::lines;
  m.b = {Element::e4m3, S, N, S}, m.b_scales = Scales::lines;
  m.d = {Element::f32, K, N, K};
  return m;
}

/// What cuBLASLt asks for beside what heuristics find; null if nothing is wrong. Addresses are multiples of 16 bytes.
constexpr const char* trouble(const Matmul& m) {
  const auto sum_a = m.transposed_a ? m.a.rows : m.a.columns, sum_b = m.transposed_b ? m.b.columns : m.b.rows;
  const auto lines_a = m.transposed_a ? m.a.columns : m.a.rows, lines_b = m.transposed_b ? m.b.rows : m.b.columns;
  if (sum_a != sum_b || lines_a != m.d.rows || lines_b != m.d.columns) return "shapes that do not fit";
  for (const Matrix* x : {&m.a, &m.b, &m.d}) {
    if (x->rows <= 0 || x->columns <= 0 || x->stride < x->rows) return "an empty matrix";
    if (x->stride * size_of(x->element) % 16 != 0) return "columns that begin at no multiples of 16 bytes";
  }
  if (m.a.element != m.b.element) return "inputs of two kinds";
  const bool scaled = m.a.element == Element::e4m3;
  if (scaled != (m.a_scales != Scales::none) || scaled != (m.b_scales != Scales::none)) return "scales of no elements";
  if (!scaled) return nullptr;
  if (!m.transposed_a || m.transposed_b) return "e4m3 elements that do not lie along the sum";
  if (m.a_scales == Scales::squares && m.b_scales == Scales::squares) return "squares of both inputs";
  if (m.d.rows % 4 != 0 || m.d.columns % 4 != 0) return "scales that begin at no multiples of 16 bytes";
  return nullptr;
}

/// Floats of an input's scales.
constexpr std::int64_t num_scales(Scales scales, std::int64_t lines, std::int64_t sum) {
  const std::int64_t along = ScaledFormat::num_blocks(sum);
  if (scales == Scales::lines) return along * lines;
  return scales == Scales::squares ? (along + 3) / 4 * 4 * ScaledFormat::num_blocks(lines) : 0;
}

/// Does a library compute this linear map, where it is there? bf16 alone: ours for it is for any shape, and therefore
/// not the fastest; those with scales are ours. Sizes below `least` are not worth a library's launch.
constexpr bool takes(const linear::Descriptor& d) {
  constexpr std::int64_t least = 64, multiple = 8;
  const auto fits = [](std::int64_t size) { return size >= least && size % multiple == 0; };
  return d.input == linear::Input::bf16 && !d.grouped && d.aligned && fits(d.num_rows) && fits(d.num_in) &&
         fits(d.num_out);
}

}  // namespace fourmi::cuda::library
