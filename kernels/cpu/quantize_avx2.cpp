// Primitives of quantisers, AVX2: 32 elements a round, the rest by the definition.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/quantize_primitives.h"
#include "kernels/numerics/target.h"

namespace fourmi::float8 {
namespace {

constexpr std::int64_t round = 32;  ///< elements

FOURMI_INLINE __m256i all(std::uint32_t bits) {
  return _mm256_set1_epi32(static_cast<int>(bits));
}
FOURMI_INLINE __m256i load(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

template <class X>
std::uint32_t rest_of(const X* x, std::int64_t n) {
  std::uint32_t most = 0;
  portable.amax(x, n, round, &most);
  return most;
}

FOURMI_INLINE std::uint32_t most_of(const float* x, std::int64_t n) {
  const std::int64_t whole = n / round * round;
  __m256i most[4] = {};
  for (std::int64_t i = 0; i < whole; i += round)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      most[j] = _mm256_max_epu32(most[j], _mm256_and_si256(load(x + i + 8 * j), all(0x7fffffff)));
  const __m256i one = _mm256_max_epu32(_mm256_max_epu32(most[0], most[1]), _mm256_max_epu32(most[2], most[3]));
  const __m128i half = _mm_max_epu32(_mm256_castsi256_si128(one), _mm256_extracti128_si256(one, 1));
  const __m128i quarter = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4e));
  const __m128i last = _mm_max_epu32(quarter, _mm_shuffle_epi32(quarter, 0xb1));
  return std::max(static_cast<std::uint32_t>(_mm_cvtsi128_si32(last)), rest_of(x + whole, n - whole));
}

FOURMI_INLINE std::uint32_t most_of(const bfloat16* x, std::int64_t n) {
  const std::int64_t whole = n / round * round;
  __m256i most[2] = {};
  for (std::int64_t i = 0; i < whole; i += round)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j)
      most[j] = _mm256_max_epu16(most[j], _mm256_and_si256(load(x + i + 16 * j), all(0x7fff7fff)));
  const __m256i both = _mm256_max_epu16(most[0], most[1]);
  const __m128i half = _mm_max_epu16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  const __m128i ones = _mm_set1_epi16(-1);  // there is an instruction for the least of eight
  const auto least = static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(half, ones))));
  return std::max((~least & 0xffffu) << 16, rest_of(x + whole, n - whole));
}

template <class X>
void amax(const X* x, std::int64_t n, std::int64_t group, std::uint32_t* most) {
  for (std::int64_t i = 0; i < n; i += group) *most++ = most_of(x + i, std::min(group, n - i));
}

/// As in AVX-512: the addition to 2^20 times the binade rounds.
struct Rounded {
  __m256i pattern;
  __m256 value;
};
FOURMI_INLINE Rounded round_magnitude(__m256 y) {
  const __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(y), all(0x7fffffff));
  const __m256i m = _mm256_min_epu32(magnitude, all(0x43e00000));
  const __m256i exponent = _mm256_and_si256(_mm256_subs_epu16(m, all(0x3c80ffff)), all(0x7f800000));
  const __m256i binade = _mm256_add_epi32(exponent, all(0x46800000));
  const __m256 sum = _mm256_add_ps(_mm256_castsi256_ps(m), _mm256_castsi256_ps(binade));
  const __m256i steps = _mm256_sub_epi32(_mm256_castps_si256(sum), binade);
  return {_mm256_add_epi32(steps, _mm256_srli_epi32(exponent, 20)), _mm256_sub_ps(sum, _mm256_castsi256_ps(binade))};
}
FOURMI_INLINE __m256i with_sign(__m256i pattern, __m256 y) {
  return _mm256_or_si256(pattern, _mm256_and_si256(_mm256_srli_epi32(_mm256_castps_si256(y), 24), all(0x80)));
}
/// Four times eight patterns, one after another.
FOURMI_INLINE __m256i pack(__m256i a, __m256i b, __m256i c, __m256i d) {
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d)),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

FOURMI_INLINE void encode_one(const float* x, std::int64_t n, float inverse, Byte* q) {
  const std::int64_t whole = n / round * round;
  const __m256 by = _mm256_set1_ps(inverse);
  for (std::int64_t i = 0; i < whole; i += round) {
    __m256i c[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * j), by);
      c[j] = with_sign(round_magnitude(y).pattern, y);
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i), pack(c[0], c[1], c[2], c[3]));
  }
  portable.encode(x + whole, n - whole, round, &inverse, q + whole);
}

/// Sixteen elements as patterns in 16 bits each.
FOURMI_INLINE __m256i encode_16(__m256i x, __m256 by) {
  const __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
  const __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(x, all(0xffff0000)));
  const __m256i low = round_magnitude(_mm256_mul_ps(even, by)).pattern;
  const __m256i high = round_magnitude(_mm256_mul_ps(odd, by)).pattern;
  const __m256i sign = _mm256_and_si256(_mm256_srli_epi16(x, 8), all(0x00800080));
  return _mm256_or_si256(_mm256_or_si256(low, _mm256_slli_epi32(high, 16)), sign);
}

FOURMI_INLINE void encode_one(const bfloat16* x, std::int64_t n, float inverse, Byte* q) {
  const std::int64_t whole = n / round * round;
  const __m256 by = _mm256_set1_ps(inverse);
  for (std::int64_t i = 0; i < whole; i += round) {
    const __m256i both = _mm256_packus_epi16(encode_16(load(x + i), by), encode_16(load(x + i + 16), by));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i), _mm256_permute4x64_epi64(both, 0xd8));
  }
  portable.encode(x + whole, n - whole, round, &inverse, q + whole);
}

template <class X>
void encode(const X* x, std::int64_t n, std::int64_t group, const float* inverses, Byte* q) {
  for (std::int64_t i = 0; i < n; i += group) encode_one(x + i, std::min(group, n - i), *inverses++, q + i);
}

/// Eight elements' values, by way of half floats.
FOURMI_INLINE __m256 values_of(const Byte* q) {
  const __m128i wide = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q)));
  const __m128i half = _mm_and_si128(_mm_slli_epi16(wide, 7), _mm_set1_epi16(static_cast<short>(0xbfff)));
  const __m128i largest = _mm_set1_epi16(0x3f80);
  const __m128i nan = _mm_cmpeq_epi16(_mm_and_si128(half, largest), largest);
  return _mm256_mul_ps(_mm256_cvtph_ps(_mm_blendv_epi8(half, _mm_set1_epi16(0x7e00), nan)), _mm256_set1_ps(256));
}

void decode(const Byte* q, std::int64_t n, float scale, float* d) {
  const std::int64_t whole = n / 8 * 8;
  for (std::int64_t i = 0; i < whole; i += 8)
    _mm256_storeu_ps(d + i, _mm256_mul_ps(values_of(q + i), _mm256_set1_ps(scale)));
  portable.decode(q + whole, n - whole, scale, d + whole);
}

void column_amax(const Byte* q, std::int64_t n, float scale, std::uint32_t* amax) {
  const std::int64_t whole = n / 8 * 8;
  for (std::int64_t i = 0; i < whole; i += 8) {
    const __m256 d = _mm256_mul_ps(values_of(q + i), _mm256_set1_ps(scale));
    const __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(d), all(0x7fffffff));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(amax + i), _mm256_max_epu32(load(amax + i), magnitude));
  }
  portable.column_amax(q + whole, n - whole, scale, amax + whole);
}

std::int64_t encode_columns(const Byte* q, std::int64_t n, float scale, const float* scales, const float* inverses,
                            Byte* out) {
  const std::int64_t whole = n / 8 * 8;
  const __m256 no_sign = _mm256_castsi256_ps(all(0x7fffffff));
  std::int64_t lossy = 0;
  for (std::int64_t i = 0; i < whole; i += 8) {
    const __m256 d = _mm256_mul_ps(values_of(q + i), _mm256_set1_ps(scale));
    const __m256 y = _mm256_mul_ps(d, _mm256_loadu_ps(inverses + i));
    const Rounded r = round_magnitude(y);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(y, y, _CMP_UNORD_Q));
    const __m256i pattern = _mm256_blendv_epi8(with_sign(r.pattern, y), all(nan_element), nan);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(pattern), _mm256_extracti128_si256(pattern, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), _mm_packus_epi16(words, words));
    const __m256 again = _mm256_mul_ps(r.value, _mm256_loadu_ps(scales + i));
    lossy += __builtin_popcount(
        static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(again, _mm256_and_ps(d, no_sign), _CMP_NEQ_OQ))));
  }
  return lossy + portable.encode_columns(q + whole, n - whole, scale, scales + whole, inverses + whole, out + whole);
}

}  // namespace

const Primitives avx2{amax<float>, amax<bfloat16>, encode<float>,  encode<bfloat16>,
                      decode,      column_amax,    encode_columns, nullptr};

}  // namespace fourmi::float8
