#include "kernels/numerics/random.h"

#include "kernels/numerics/inverse_normal.h"
#include "kernels/numerics/mix.h"
#include "kernels/numerics/philox.h"
#include "kernels/numerics/rounding.h"

namespace fourmi {
namespace {

/// Elements 2j and 2j + 1 share one call of the generator, with counter j.
std::array<std::uint64_t, 2> random_pair(RandomKey key, std::uint64_t pair) {
  const auto w = philox4x32({static_cast<std::uint32_t>(pair), static_cast<std::uint32_t>(pair >> 32), 0, 0},
                            {static_cast<std::uint32_t>(key.value), static_cast<std::uint32_t>(key.value >> 32)});
  return {std::uint64_t{w[1]} << 32 | w[0], std::uint64_t{w[3]} << 32 | w[2]};
}

/// The upper 52 bits k as (2 k + 1) 2^-53: exact, never 0 or 1, symmetric about 1/2.
double uniform_from(std::uint64_t bits) {
  return static_cast<double>((bits >> 12) * 2 + 1) * 0x1p-53;
}

template <class T>
void fill(T* x, std::uint64_t n, RandomKey key, std::uint64_t first, double stddev) {
  const auto value = [&](std::uint64_t bits) { return round_to<T>(stddev * inverse_normal(uniform_from(bits))); };
  std::uint64_t i = 0;
  if (n > 0 && first % 2 == 1) x[i++] = value(random_pair(key, first / 2)[1]);
  for (; i + 1 < n; i += 2) {
    const auto pair = random_pair(key, (first + i) / 2);
    x[i] = value(pair[0]);
    x[i + 1] = value(pair[1]);
  }
  if (i < n) x[i] = value(random_pair(key, (first + i) / 2)[0]);
}

}  // namespace

RandomKey random_key(std::uint64_t seed, std::string_view purpose, std::string_view name) {
  return {mix_text(mix_text(mix64(seed), purpose), name)};
}

std::uint64_t random_bits(RandomKey key, std::uint64_t index) {
  return random_pair(key, index / 2)[index % 2];
}

double random_uniform(RandomKey key, std::uint64_t index) {
  return uniform_from(random_bits(key, index));
}

double random_normal(RandomKey key, std::uint64_t index) {
  return inverse_normal(random_uniform(key, index));
}

void fill_normal(const Tensor& x, RandomKey key, std::uint64_t first_index, double stddev) {
  const auto n = static_cast<std::uint64_t>(x.num_elements());
  switch (x.dtype) {
    case DType::f64:
      return fill(x.as<double>(), n, key, first_index, stddev);
    case DType::f32:
      return fill(x.as<float>(), n, key, first_index, stddev);
    case DType::bf16:
      return fill(x.as<bfloat16>(), n, key, first_index, stddev);
    default:
      FOURMI_CHECK(false, "normal numbers of {}", name_of(x.dtype));
  }
}

}  // namespace fourmi
