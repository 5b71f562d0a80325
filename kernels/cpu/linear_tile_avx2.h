// What the AVX2 kernels of linear maps share: tiles of 6 rows by two vectors.
#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>
#include <utility>

namespace fourmi::linear {

inline __m256 load(const float* p) {
  return _mm256_loadu_ps(p);
}
inline __m256d load(const double* p) {
  return _mm256_loadu_pd(p);
}
inline __m256 broadcast(const float* p) {
  return _mm256_broadcast_ss(p);
}
inline __m256d broadcast(const double* p) {
  return _mm256_broadcast_sd(p);
}
inline __m256 multiply_add(__m256 a, __m256 b, __m256 c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline __m256d multiply_add(__m256d a, __m256d b, __m256d c) {
  return _mm256_fmadd_pd(a, b, c);
}
inline void store(float* p, __m256 v) {
  _mm256_storeu_ps(p, v);
}
inline void store(double* p, __m256d v) {
  _mm256_storeu_pd(p, v);
}

constexpr std::int64_t most_rows = 6;
template <class T>
constexpr std::int64_t lanes = 32 / static_cast<std::int64_t>(sizeof(T));

/// chains[R][2 * lanes] += a b over the steps; V vectors of each row are wanted.
template <class T, int R, int V>
[[gnu::noinline]] void tile(const std::byte* a, std::int64_t a_row, std::int64_t a_step, const T* b, std::int64_t steps,
                            T* chains, bool first) {
  decltype(load(b)) c[R][V];
#pragma GCC unroll 6
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) {
      if (first)
        c[i][j] = decltype(load(b)){};
      else
        c[i][j] = load(chains + (2 * i + j) * lanes<T>);
    }
  const std::byte* upper = a + 3 * a_row;
  for (std::int64_t s = 0; s < steps; ++s, b += 2 * lanes<T>, a += a_step, upper += a_step) {
    decltype(load(b)) column[V];
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) column[j] = load(b + j * lanes<T>);
#pragma GCC unroll 6
    for (int i = 0; i < R; ++i) {
      const auto x = broadcast(reinterpret_cast<const T*>((i < 3 ? a : upper) + (i % 3) * a_row));
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) c[i][j] = multiply_add(x, column[j], c[i][j]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) store(chains + (2 * i + j) * lanes<T>, c[i][j]);
}

/// A tile of `rows` rows of which `cols` columns are wanted.
template <class T>
void multiply_tile(std::int64_t rows, std::int64_t cols, const std::byte* a, std::int64_t a_row, std::int64_t a_step,
                   const T* b, std::int64_t steps, T* chains, bool first) {
  using Tile = void (*)(const std::byte*, std::int64_t, std::int64_t, const T*, std::int64_t, T*, bool);
  static constexpr auto tiles = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<std::array<Tile, 2>, most_rows>{{{tile<T, R + 1, 1>, tile<T, R + 1, 2>}...}};
  }
  (std::make_integer_sequence<int, most_rows>{});
  tiles[static_cast<std::size_t>(rows - 1)][cols > lanes<T>](a, a_row, a_step, b, steps, chains, first);
}

/// Eight vectors of one row (column of b) each become eight steps, a tile's columns apart.
inline void transpose(const __m256 (&r)[8], float* dst) {
  constexpr std::int64_t cols = 2 * lanes<float>;
  __m256 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4)
    for (int k = 0; k < 2; ++k) {
      u[i + 2 * k] = _mm256_shuffle_ps(t[i + k], t[i + 2 + k], 0x44);
      u[i + 2 * k + 1] = _mm256_shuffle_ps(t[i + k], t[i + 2 + k], 0xee);
    }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(dst + i * cols, _mm256_permute2f128_ps(u[i], u[i + 4], 0x20));
    _mm256_storeu_ps(dst + (i + 4) * cols, _mm256_permute2f128_ps(u[i], u[i + 4], 0x31));
  }
}

}  // namespace fourmi::linear
