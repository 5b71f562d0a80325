// The definition of every primitive, element by element.
#include <algorithm>

#include "kernels/cpu/quantize_primitives.h"
#include "kernels/numerics/float8.h"
#include "kernels/numerics/lanes.h"

namespace fourmi::float8 {
namespace {

std::uint32_t magnitude_bits(float x) {
  return std::bit_cast<std::uint32_t>(x) & 0x7fffffffu;
}

template <class X>
void amax(const X* x, std::int64_t n, std::int64_t group, std::uint32_t* most) {
  for (std::int64_t i = 0; i < n; ++i) {
    if (i % group == 0) most[i / group] = 0;
    most[i / group] = std::max(most[i / group], magnitude_bits(widen<float>(x[i])));
  }
}

template <class X>
void encode(const X* x, std::int64_t n, std::int64_t group, const float* inverses, Byte* q) {
  for (std::int64_t i = 0; i < n; ++i) q[i] = float8_e4m3(widen<float>(x[i]) * inverses[i / group]).bits;
}

float value(Byte q, float scale) {
  return static_cast<float>(float8_e4m3::from_bits(q)) * scale;
}

void decode(const Byte* q, std::int64_t n, float scale, float* d) {
  for (std::int64_t i = 0; i < n; ++i) d[i] = value(q[i], scale);
}

void column_amax(const Byte* q, std::int64_t n, float scale, std::uint32_t* most) {
  for (std::int64_t i = 0; i < n; ++i) most[i] = std::max(most[i], magnitude_bits(value(q[i], scale)));
}

std::int64_t encode_columns(const Byte* q, std::int64_t n, float scale, const float* scales, const float* inverses,
                            Byte* out) {
  std::int64_t lossy = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float d = value(q[i], scale), scaled = d * inverses[i];
    out[i] = scaled != scaled ? nan_element : float8_e4m3(scaled).bits;
    const float again = value(out[i], scales[i]);
    lossy += again < d || again > d ? 1 : 0;
  }
  return lossy;
}

}  // namespace

const Primitives portable{amax<float>, amax<bfloat16>, encode<float>,  encode<bfloat16>,
                          decode,      column_amax,    encode_columns, nullptr};

}  // namespace fourmi::float8
