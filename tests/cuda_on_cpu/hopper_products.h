// Hopper's products of warpgroups on the CPU. They read shared memory when they are waited for, not before, so that
// what is overwritten too early shows; until then their sums are poison.
#pragma once

#include <atomic>
#include <bit>
#include <map>

#include "kernels/cuda/hopper/operand.h"
#include "kernels/numerics/float8.h"
#include "tests/cuda_on_cpu/hopper_copies.h"

namespace cuda_on_cpu::hopper {

using fourmi::cuda::hopper::Operand;

/// Where byte k of row `row` of an operand lies (PTX ISA "Shared memory matrix layout", what is summed contiguous).
inline std::uint32_t operand_address(Operand operand, std::uint32_t row, std::uint32_t k) {
  const auto field = [operand](int from) { return static_cast<std::uint32_t>(operand >> from & 0x3fff) << 4; };
  const std::uint32_t begin = field(0), leading = field(16), eight_rows = field(32);
  require((operand >> 49 & 7) == 0, "a base offset is not emulated");
  using fourmi::cuda::hopper::Swizzle;
  constexpr Swizzle modes[] = {Swizzle::none, Swizzle::span_128, Swizzle::span_64, Swizzle::span_32};
  const Swizzle swizzle = modes[operand >> 62];
  if (swizzle == Swizzle::none)  // pieces of 8 rows, 16 bytes each
    return begin + row / 8 * eight_rows + k / 16 * leading + row % 8 * 16 + k % 16;
  const auto row_bytes = static_cast<std::uint32_t>(swizzle_span(swizzle));
  require(eight_rows % (8 * row_bytes) == 0, "rows of a swizzled operand that do not begin with the pattern");
  return swizzled(swizzle, begin + row / 8 * eight_rows + row % 8 * row_bytes + k);
}

struct Product {
  Operand a, b;
  bool accumulate;
  float* sum;
  int columns;
};
/// Of one thread.
struct Products {
  std::vector<Product> begun;
  std::vector<std::vector<Product>> groups;
  std::map<float*, std::vector<float>> sums;  // of those under way: what they hold
  bool fenced = false;
};
inline Products& products() {
  thread_local std::map<unsigned, Products> of_thread;
  return of_thread[thread_index().x];
}

/// How many threads began, since the program's start.
inline std::atomic<std::int64_t> num_begun = 0;

inline constexpr float poison = std::bit_cast<float>(0x7fedcba9u);

inline void multiply(float* sum, int columns, Operand a, Operand b, bool accumulate) {
  struct Arguments {
    Operand a, b;
    bool accumulate;
  };
  static_assert(sizeof(Arguments) <= 64);
  Arguments mine;
  std::memset(&mine, 0, sizeof(mine));
  mine.a = a, mine.b = b, mine.accumulate = accumulate;
  const LaneBytes& all = exchange(0xffffffffu, &mine, sizeof(mine));
  for (int i = 0; i < 32; ++i)
    require(std::memcmp(all[static_cast<std::size_t>(i)].data(), &mine, sizeof(mine)) == 0,
            "lanes of a warp begin different products");
  Products& p = products();
  require(p.fenced, "a product without a fence before it");
  const auto size = static_cast<std::size_t>(columns / 2);
  auto [at, is_new] = p.sums.try_emplace(sum);
  if (is_new)
    at->second.assign(sum, sum + size);
  else
    for (std::size_t i = 0; i < size; ++i)
      require(std::bit_cast<std::uint32_t>(sum[i]) == std::bit_cast<std::uint32_t>(poison),
              "a sum was changed while products that add to it are under way");
  std::fill(sum, sum + size, poison);
  p.begun.push_back({a, b, accumulate, sum, columns});
  num_begun.fetch_add(1, std::memory_order_relaxed);
}

/// This thread's part of a product.
inline void finish(const Product& p, std::vector<float>& sum) {
  static const auto values = [] {
    std::array<float, 256> v{};
    for (unsigned i = 0; i < 256; ++i)
      v[i] = static_cast<float>(fourmi::float8_e4m3::from_bits(static_cast<std::uint8_t>(i)));
    return v;
  }();
  const auto row_of = [](Operand operand, unsigned row, float(&out)[32]) {
    for (unsigned k = 0; k < 32; ++k)
      out[k] = values[static_cast<std::uint8_t>(*shared_memory(operand_address(operand, row, k)))];
  };
  const unsigned thread = thread_index().x, warp = thread / 32 % 4, lane = thread % 32;
  float a[2][32], b[32];
  for (unsigned half = 0; half < 2; ++half) row_of(p.a, warp * 16 + lane / 4 + 8 * half, a[half]);
  for (unsigned i = 0; i < static_cast<unsigned>(p.columns) / 8; ++i)
    for (unsigned odd = 0; odd < 2; ++odd) {
      row_of(p.b, 8 * i + lane % 4 * 2 + odd, b);
      for (unsigned half = 0; half < 2; ++half) {
        float& s = sum[4 * i + 2 * half + odd];
        double exact = p.accumulate ? static_cast<double>(s) : 0.0;
        for (unsigned k = 0; k < 32; ++k) exact += static_cast<double>(a[half][k] * b[k]);
        s = static_cast<float>(exact);
      }
    }
}

inline void wait_products(std::size_t pending) {
  Products& p = products();
  while (p.groups.size() > pending) {
    for (const Product& one : p.groups.front()) finish(one, p.sums.at(one.sum));
    p.groups.erase(p.groups.begin());
  }
  for (auto at = p.sums.begin(); at != p.sums.end();) {
    bool under_way = false;
    for (const auto& group : p.groups)
      for (const Product& one : group) under_way = under_way || one.sum == at->first;
    for (const Product& one : p.begun) under_way = under_way || one.sum == at->first;
    if (under_way) {
      ++at;
      continue;
    }
    for (std::size_t i = 0; i < at->second.size(); ++i)
      require(std::bit_cast<std::uint32_t>(at->first[i]) == std::bit_cast<std::uint32_t>(poison),
              "a sum was changed before its products were waited for");
    std::copy(at->second.begin(), at->second.end(), at->first);
    at = p.sums.erase(at);
  }
  p.fenced = false;
}

}  // namespace cuda_on_cpu::hopper
