#include "kernels/cuda/division.h"

#include <gtest/gtest.h>

#include <random>

namespace fourmi::cuda {
namespace {

TEST(Division, IsThatOfIntegers) {
  std::mt19937 random(1);
  constexpr std::uint32_t most = 0x7fffffff;
  for (int i = 0; i < 40'000; ++i) {
    const std::uint32_t d = i < 3000   ? static_cast<std::uint32_t>(i) + 1
                            : i < 3032 ? 1U << (i - 3000)
                            : i < 3062 ? (1U << (i - 3031)) + 1
                                       : (random() >> (1 + random() % 30)) + 1;
    const Division by(d);
    for (const std::uint64_t near : {std::uint64_t{0}, std::uint64_t{d}, std::uint64_t{most / d} * d,
                                     std::uint64_t{random() % (most / d + 1)} * d, std::uint64_t{most}})
      for (const std::uint64_t n : {near, near + 1, near - 1}) {
        if (n > most) continue;
        ASSERT_EQ(by(static_cast<std::uint32_t>(n)), n / d) << n << " / " << d;
      }
  }
}

}  // namespace
}  // namespace fourmi::cuda
