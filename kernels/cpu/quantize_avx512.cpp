// Primitives of quantisers, AVX-512: 64 elements a round, tails under masks.
// GCC 12 warns of the deliberately undefined operands inside its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include "kernels/cpu/quantize_primitives.h"
#include "kernels/numerics/target.h"

#define FOURMI_AVX512_INLINE FOURMI_AVX512 static inline __attribute__((always_inline))

namespace fourmi::float8 {
namespace {

constexpr std::int64_t round = 64;  ///< elements

/// The first n of up to `bits` elements, n from where a round begins.
constexpr std::uint64_t first(std::int64_t n, int bits) {
  return n <= 0 ? 0 : n >= bits ? ~std::uint64_t{0} >> (64 - bits) : (std::uint64_t{1} << n) - 1;
}

FOURMI_AVX512_INLINE __m512i load(const float* x, std::int64_t n) {
  return _mm512_maskz_loadu_epi32(static_cast<__mmask16>(first(n, 16)), x);
}
FOURMI_AVX512_INLINE __m512i load(const bfloat16* x, std::int64_t n) {
  return _mm512_maskz_loadu_epi16(static_cast<__mmask32>(first(n, 32)), x);
}
FOURMI_AVX512_INLINE __m512i all(std::uint32_t bits) {
  return _mm512_set1_epi32(static_cast<int>(bits));
}

FOURMI_AVX512_INLINE std::uint32_t most_of(const float* x, std::int64_t n) {
  const __m512i magnitude = all(0x7fffffff);
  __m512i most[4] = {};
  std::int64_t i = 0;
  for (; i + round <= n; i += round)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      most[j] = _mm512_max_epu32(most[j], _mm512_and_si512(_mm512_loadu_si512(x + i + 16 * j), magnitude));
  for (; i < n; i += 16) most[0] = _mm512_max_epu32(most[0], _mm512_and_si512(load(x + i, n - i), magnitude));
  return _mm512_reduce_max_epu32(
      _mm512_max_epu32(_mm512_max_epu32(most[0], most[1]), _mm512_max_epu32(most[2], most[3])));
}

FOURMI_AVX512_INLINE std::uint32_t most_of(const bfloat16* x, std::int64_t n) {
  const __m512i magnitude = all(0x7fff7fff);
  __m512i most[2] = {};
  std::int64_t i = 0;
  for (; i + round <= n; i += round)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j)
      most[j] = _mm512_max_epu16(most[j], _mm512_and_si512(_mm512_loadu_si512(x + i + 32 * j), magnitude));
  for (; i < n; i += 32) most[0] = _mm512_max_epu16(most[0], _mm512_and_si512(load(x + i, n - i), magnitude));
  const __m512i both = _mm512_max_epu16(most[0], most[1]);
  const __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1));
  const __m128i quarter = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  const __m128i ones = _mm_set1_epi16(-1);  // there is an instruction for the least of eight
  const auto least = static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(quarter, ones))));
  return (~least & 0xffffu) << 16;
}

template <class X>
FOURMI_AVX512 void amax(const X* x, std::int64_t n, std::int64_t group, std::uint32_t* most) {
  std::int64_t i = 0;
  if (group == 128)
    for (; i + 128 <= n; i += 128) *most++ = most_of(x + i, 128);
  else if (group == 32)
    for (; i + 32 <= n; i += 32) *most++ = most_of(x + i, 32);
  for (; i < n; i += group) *most++ = most_of(x + i, n - i < group ? n - i : group);
}

/// Magnitudes as e4m3 patterns, one in 32 bits. Saturates; y is not NaN.
struct Rounded {
  __m512i pattern;
  __m512 value;  ///< of the pattern
};
FOURMI_AVX512_INLINE Rounded round_magnitude(__m512 y) {
  const __m512i magnitude = _mm512_and_si512(_mm512_castps_si512(y), all(0x7fffffff));
  const __m512i m = _mm512_min_epu32(magnitude, all(0x43e00000));  // 448
  // The exponent above that of 2^-6, the least normal: 0 for denormals. The subtraction saturates; it leaves the lower
  // halves 0.
  const __m512i exponent = _mm512_and_si512(_mm512_subs_epu16(m, all(0x3c80ffff)), all(0x7f800000));
  // In the sum with 2^20 times the binade, the last bit weighs as much as the result's: the addition rounds.
  const __m512i binade = _mm512_add_epi32(exponent, all(0x46800000));
  const __m512 sum = _mm512_add_ps(_mm512_castsi512_ps(m), _mm512_castsi512_ps(binade));
  const __m512i steps = _mm512_sub_epi32(_mm512_castps_si512(sum), binade);
  return {_mm512_add_epi32(steps, _mm512_srli_epi32(exponent, 20)), _mm512_sub_ps(sum, _mm512_castsi512_ps(binade))};
}
FOURMI_AVX512_INLINE __m512i encode_16(__m512 y) {
  const __m512i sign = _mm512_srli_epi32(_mm512_castps_si512(y), 24);
  return _mm512_ternarylogic_epi32(round_magnitude(y).pattern, sign, all(0x80), 0xf8);  // pattern | (sign & 0x80)
}
/// Four times 16 patterns, one after another.
FOURMI_AVX512_INLINE __m512i pack(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d)));
}

/// 32 elements as patterns in 16 bits each: even ones are the upper halves of floats after a shift, odd ones as they
/// are.
FOURMI_AVX512_INLINE __m512i encode_32(__m512i x, __m512 by) {
  const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
  const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(x, all(0xffff0000)));
  const __m512i low = round_magnitude(_mm512_mul_ps(even, by)).pattern;
  const __m512i high = round_magnitude(_mm512_mul_ps(odd, by)).pattern;
  const __m512i both = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  return _mm512_ternarylogic_epi32(both, _mm512_srli_epi16(x, 8), all(0x00800080), 0xf8);
}

/// A round's patterns, of which n exist; the second half by another factor.
template <bool whole>
FOURMI_AVX512_INLINE __m512i encode_round(const float* x, std::int64_t n, __m512 first_by, __m512 second_by) {
  __m512i c[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i loaded = whole ? _mm512_loadu_si512(x + 16 * j) : load(x + 16 * j, n - 16 * j);
    c[j] = encode_16(_mm512_mul_ps(_mm512_castsi512_ps(loaded), j < 2 ? first_by : second_by));
  }
  return pack(c[0], c[1], c[2], c[3]);
}
template <bool whole>
FOURMI_AVX512_INLINE __m512i encode_round(const bfloat16* x, std::int64_t n, __m512 first_by, __m512 second_by) {
  const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  const __m512i a = encode_32(whole ? _mm512_loadu_si512(x) : load(x, n), first_by);
  const __m512i b = encode_32(whole ? _mm512_loadu_si512(x + 32) : load(x + 32, n - 32), second_by);
  return _mm512_permutexvar_epi64(order, _mm512_packus_epi16(a, b));
}

template <class X>
FOURMI_AVX512 void encode(const X* x, std::int64_t n, std::int64_t group, const float* inverses, Byte* q) {
  std::int64_t i = 0;
  if (group == 32)
    for (; i + round <= n; i += round, inverses += 2)
      _mm512_storeu_si512(q + i,
                          encode_round<true>(x + i, round, _mm512_set1_ps(inverses[0]), _mm512_set1_ps(inverses[1])));
  for (; i < n; ++inverses) {
    const std::int64_t end = n - i < group ? n : i + group;
    const __m512 by = _mm512_set1_ps(*inverses);
    for (; i + round <= end; i += round) _mm512_storeu_si512(q + i, encode_round<true>(x + i, round, by, by));
    if (i < end) _mm512_mask_storeu_epi8(q + i, first(end - i, 64), encode_round<false>(x + i, end - i, by, by));
    i = end;
  }
}

/// 32 elements' values. An element with its exponent and mantissa where a half float has them is 2^-8 of itself,
/// denormals too.
struct Values {
  __m512 low, high;
};
FOURMI_AVX512_INLINE Values values_of(const Byte* q, std::int64_t n) {
  const __m256i bytes = _mm256_maskz_loadu_epi8(static_cast<__mmask32>(first(n, 32)), q);
  const __m256i negative = _mm256_or_si256(bytes, _mm256_set1_epi8(-128));
  const __mmask32 nan = _mm256_cmpeq_epi8_mask(negative, _mm256_set1_epi8(-1));
  __m512i half = _mm512_and_si512(_mm512_slli_epi16(_mm512_cvtepi8_epi16(bytes), 7), all(0xbfffbfff));
  half = _mm512_mask_mov_epi16(half, nan, all(0x7e007e00));
  const __m512 up = _mm512_set1_ps(256);
  return {_mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(half)), up),
          _mm512_mul_ps(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1)), up)};
}

FOURMI_AVX512 void decode(const Byte* q, std::int64_t n, float scale, float* d) {
  const __m512 s = _mm512_set1_ps(scale);
  for (std::int64_t i = 0; i < n; i += 32) {
    const Values v = values_of(q + i, n - i);
    _mm512_mask_storeu_ps(d + i, static_cast<__mmask16>(first(n - i, 16)), _mm512_mul_ps(v.low, s));
    _mm512_mask_storeu_ps(d + i + 16, static_cast<__mmask16>(first(n - i - 16, 16)), _mm512_mul_ps(v.high, s));
  }
}

FOURMI_AVX512_INLINE void raise(std::uint32_t* amax, __mmask16 present, __m512 d) {
  const __m512i magnitude = _mm512_and_si512(_mm512_castps_si512(d), all(0x7fffffff));
  _mm512_mask_storeu_epi32(amax, present, _mm512_max_epu32(_mm512_maskz_loadu_epi32(present, amax), magnitude));
}

FOURMI_AVX512 void column_amax(const Byte* q, std::int64_t n, float scale, std::uint32_t* amax) {
  const __m512 s = _mm512_set1_ps(scale);
  for (std::int64_t i = 0; i < n; i += 32) {
    const Values v = values_of(q + i, n - i);
    raise(amax + i, static_cast<__mmask16>(first(n - i, 16)), _mm512_mul_ps(v.low, s));
    raise(amax + i + 16, static_cast<__mmask16>(first(n - i - 16, 16)), _mm512_mul_ps(v.high, s));
  }
}

/// 16 elements; returns a bit for each that is lossy.
FOURMI_AVX512_INLINE std::uint32_t regroup_16(__m512 d, __mmask16 present, const float* scales, const float* inverses,
                                              Byte* out) {
  const __m512 y = _mm512_mul_ps(d, _mm512_maskz_loadu_ps(present, inverses));
  const Rounded r = round_magnitude(y);
  const __m512i sign = _mm512_srli_epi32(_mm512_castps_si512(y), 24);
  __m512i pattern = _mm512_ternarylogic_epi32(r.pattern, sign, all(0x80), 0xf8);
  pattern = _mm512_mask_mov_epi32(pattern, _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q), all(nan_element));
  _mm_mask_storeu_epi8(out, present, _mm512_cvtepi32_epi8(pattern));
  const __m512 again = _mm512_mul_ps(r.value, _mm512_maskz_loadu_ps(present, scales));
  return _mm512_mask_cmp_ps_mask(present, again, _mm512_abs_ps(d), _CMP_NEQ_OQ);
}

FOURMI_AVX512 std::int64_t encode_columns(const Byte* q, std::int64_t n, float scale, const float* scales,
                                          const float* inverses, Byte* out) {
  const __m512 s = _mm512_set1_ps(scale);
  std::int64_t lossy = 0;
  for (std::int64_t i = 0; i < n; i += 32) {
    const Values v = values_of(q + i, n - i);
    const std::int64_t j = i + 16;
    const std::uint32_t low = regroup_16(_mm512_mul_ps(v.low, s), static_cast<__mmask16>(first(n - i, 16)), scales + i,
                                         inverses + i, out + i);
    const std::uint32_t high = regroup_16(_mm512_mul_ps(v.high, s), static_cast<__mmask16>(first(n - j, 16)),
                                          scales + j, inverses + j, out + j);
    lossy += __builtin_popcount(low | high << 16);
  }
  return lossy;
}

/// Positions: an element's place among the magnitudes as if there were no denormals, 8 a binade, 32 for 2^-6, 150 for
/// 448, 8 for the least (2^-9); zero is 0.
FOURMI_AVX512_INLINE __m512i positions_of(__m512i magnitude) {
  const __m512i denormals = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 16, 20, 24, 26, 28, 30, 0, 0, 0, 0, 0, 0, 0, 0));
  const __mmask64 small = _mm512_cmplt_epu8_mask(magnitude, _mm512_set1_epi8(8));
  return _mm512_mask_shuffle_epi8(_mm512_add_epi8(magnitude, _mm512_set1_epi8(24)), small, denormals, magnitude);
}
/// The element nearest to a position below 32, ties to even, and whether it is not equal.
FOURMI_AVX512_INLINE __m512i denormal_of(__m512i position) {
  const __m512i low = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2));
  const __m512i high = _mm512_broadcast_i32x4(_mm_setr_epi8(2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 6, 6, 6, 7, 8));
  const __mmask64 upper = _mm512_cmpge_epu8_mask(position, _mm512_set1_epi8(16));
  return _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(low, position), upper, high, position);
}

FOURMI_AVX512 std::int64_t shift_columns(const ColumnTile& t) {
  std::uint8_t least = 255, largest = 0;
  for (std::int64_t r = 0; r < t.rows; ++r) {
    least = t.exponents[r] < least ? t.exponents[r] : least;
    largest = t.exponents[r] > largest ? t.exponents[r] : largest;
  }
  // Positions relative to the least scale must fit eight bits; 448 times a scale must be a float.
  if (largest - least > 13 || largest > 240) return -1;
  const __mmask64 present = first(t.columns, 64);
  const __m512i no_sign = _mm512_set1_epi8(0x7f);
  __m512i most = _mm512_setzero_si512(), largest_element = most;
  for (std::int64_t r = 0; r < t.rows; ++r) {
    const __m512i magnitude = _mm512_and_si512(_mm512_maskz_loadu_epi8(present, t.q + r * t.stride), no_sign);
    const __mmask64 some = _mm512_test_epi8_mask(magnitude, magnitude);
    const __m512i up = _mm512_set1_epi8(static_cast<char>(8 * (t.exponents[r] - least)));
    most = _mm512_max_epu8(most, _mm512_maskz_add_epi8(some, positions_of(magnitude), up));
    largest_element = _mm512_max_epu8(largest_element, magnitude);
  }
  if (_mm512_cmpeq_epi8_mask(largest_element, no_sign) != 0) return -1;
  // Each column's scale: the power of two that brings its largest position to at most 150, and above 142.
  alignas(64) std::uint8_t column_most[64], raise[64] = {}, lower[64] = {};
  _mm512_store_si512(column_most, most);
  for (std::int64_t c = 0; c < t.columns; ++c) {
    const int above = column_most[c] - 24;
    const int binades = above < 0 ? -((7 - above) / 8) : above / 8;
    int exponent = least + binades - 15 + (above - 8 * binades > 6 ? 1 : 0);
    exponent = exponent < 1 ? 1 : exponent;
    if (column_most[c] == 0) exponent = 127;
    const int shift = 8 * (least - exponent);
    raise[c] = static_cast<std::uint8_t>(shift < 0 ? 0 : shift < 255 ? shift : 255);
    lower[c] = static_cast<std::uint8_t>(shift > 0 ? 0 : shift > -255 ? -shift : 255);
    t.out_exponents[c] = static_cast<std::uint8_t>(exponent);
  }
  const __m512i raised = _mm512_load_si512(raise), lowered = _mm512_load_si512(lower);
  std::int64_t lossy = 0;
  for (std::int64_t r = 0; r < t.rows; ++r) {
    const __m512i q = _mm512_maskz_loadu_epi8(present, t.q + r * t.stride);
    const __m512i magnitude = _mm512_and_si512(q, no_sign);
    const __mmask64 some = _mm512_test_epi8_mask(magnitude, magnitude);
    const __m512i up = _mm512_set1_epi8(static_cast<char>(8 * (t.exponents[r] - least)));
    const __m512i from_least = _mm512_add_epi8(positions_of(magnitude), up);
    const __m512i position = _mm512_subs_epu8(_mm512_maskz_adds_epu8(some, from_least, raised), lowered);
    __m512i element = _mm512_maskz_sub_epi8(some, position, _mm512_set1_epi8(24));
    const __mmask64 denormal = _mm512_mask_cmplt_epu8_mask(some, position, _mm512_set1_epi8(32));
    if (denormal != 0) {
      element = _mm512_mask_mov_epi8(element, denormal, denormal_of(position));
      lossy += __builtin_popcountll(_mm512_mask_cmpneq_epu8_mask(denormal, positions_of(element), position) |
                                    _mm512_mask_cmpeq_epi8_mask(denormal, element, _mm512_setzero_si512()));
    }
    element = _mm512_ternarylogic_epi32(element, q, _mm512_set1_epi8(-128), 0xf8);  // the sign
    _mm512_mask_storeu_epi8(t.out + r * t.out_stride, present, element);
  }
  return lossy;
}

}  // namespace

const Primitives avx512{amax<float>, amax<bfloat16>, encode<float>,  encode<bfloat16>,
                        decode,      column_amax,    encode_columns, shift_columns};

}  // namespace fourmi::float8
