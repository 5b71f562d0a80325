// Hopper's products of warpgroups on the CPU. They read shared memory when they are waited for, not before, so that
// what is overwritten too early shows; until then their sums are poison.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <map>

#include "kernels/cuda/hopper/operand.h"
#include "kernels/numerics/bfloat16.h"
#include "kernels/numerics/float8.h"
#include "tests/cuda_on_cpu/hopper_copies.h"

namespace cuda_on_cpu::hopper {

using fourmi::cuda::hopper::Operand;

/// The offsets that an operand tells, in bytes.
struct OperandFields {
  std::uint32_t begin, leading, stride;

  explicit OperandFields(Operand operand) {
    const auto field = [operand](int from) { return static_cast<std::uint32_t>(operand >> from & 0x3fff) << 4; };
    begin = field(0), leading = field(16), stride = field(32);
    require((operand >> 49 & 7) == 0, "a base offset is not emulated");
  }
};

/// Where byte k of row `row` of an operand lies (PTX ISA "Shared memory matrix layout", what is summed contiguous).
inline std::uint32_t operand_address(Operand operand, std::uint32_t row, std::uint32_t k) {
  const auto [begin, leading, eight_rows] = OperandFields(operand);
  using fourmi::cuda::hopper::Swizzle;
  constexpr Swizzle modes[] = {Swizzle::none, Swizzle::span_128, Swizzle::span_64, Swizzle::span_32};
  const Swizzle swizzle = modes[operand >> 62];
  if (swizzle == Swizzle::none)  // pieces of 8 rows, 16 bytes each
    return begin + row / 8 * eight_rows + k / 16 * leading + row % 8 * 16 + k % 16;
  const auto row_bytes = static_cast<std::uint32_t>(swizzle_span(swizzle));
  require(eight_rows % (8 * row_bytes) == 0, "rows of a swizzled operand that do not begin with the pattern");
  return swizzled(swizzle, begin + row / 8 * eight_rows + row % 8 * row_bytes + k);
}

/// Where the element of 16 bits of line `line` and place k in the sum lies if lines are contiguous ("MN-major"), by the
/// ISA's canonical layouts: W pieces of T = 8 lines fill the swizzle's span, and in elements they make
/// ((T, W, m), (8, k)) : ((1, T, leading), (W T, stride)).
inline std::uint32_t turned_address(Operand operand, std::uint32_t line, std::uint32_t k) {
  const auto [begin, leading, stride] = OperandFields(operand);
  using fourmi::cuda::hopper::Swizzle;
  constexpr Swizzle modes[] = {Swizzle::none, Swizzle::span_128, Swizzle::span_64, Swizzle::span_32};
  const Swizzle swizzle = modes[operand >> 62];
  require(swizzle != Swizzle::none, "lines that are contiguous are emulated with a swizzle alone");
  const auto span = static_cast<std::uint32_t>(swizzle_span(swizzle));
  require(begin % (8 * span) == 0 && leading % (8 * span) == 0 && stride % (8 * span) == 0,
          "a swizzled operand that does not begin with the pattern");
  constexpr std::uint32_t T = 8, bytes = 2;
  const std::uint32_t W = span / (T * bytes);
  return swizzled(swizzle, begin + line % T * bytes + line / T % W * T * bytes + line / T / W * leading +
                               k % 8 * W * T * bytes + k / 8 * stride);
}

/// What the instruction says: elements, and whether an operand's lines are contiguous, not what is summed.
enum class Elements : std::uint32_t { e4m3, bf16 };
struct Product {
  Operand a, b;
  bool accumulate;
  Elements elements = Elements::e4m3;
  bool turned_a = false, turned_b = false;
  float* sum = nullptr;
  int columns = 0;
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

/// How many threads began, since the program's start, of each kind of elements.
inline std::array<std::atomic<std::int64_t>, 2> num_begun{};

inline constexpr float poison = std::bit_cast<float>(0x7fedcba9u);

inline void multiply(float* sum, int columns, const Product& product) {
  const std::array<std::uint64_t, 3> mine{
      product.a, product.b,
      std::uint64_t{product.accumulate} | std::uint64_t{product.turned_a} << 1 | std::uint64_t{product.turned_b} << 2 |
          static_cast<std::uint64_t>(product.elements) << 3 | static_cast<std::uint64_t>(columns) << 4};
  const LaneBytes& all = exchange(0xffffffffu, mine.data(), sizeof(mine));
  for (int i = 0; i < 32; ++i)
    require(std::memcmp(all[static_cast<std::size_t>(i)].data(), mine.data(), sizeof(mine)) == 0,
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
  p.begun.push_back(product);
  p.begun.back().sum = sum, p.begun.back().columns = columns;
  num_begun[static_cast<std::size_t>(product.elements)].fetch_add(1, std::memory_order_relaxed);
}

/// The elements of a line of an operand; returns how many there are.
inline unsigned read_line(const Product& p, Operand operand, bool turned, unsigned line, float (&out)[32]) {
  if (p.elements == Elements::e4m3) {
    static const auto values = [] {
      std::array<float, 256> v{};
      for (unsigned i = 0; i < 256; ++i)
        v[i] = static_cast<float>(fourmi::float8_e4m3::from_bits(static_cast<std::uint8_t>(i)));
      return v;
    }();
    for (unsigned k = 0; k < 32; ++k)
      out[k] = values[static_cast<std::uint8_t>(*shared_memory(operand_address(operand, line, k)))];
    return 32;
  }
  for (unsigned k = 0; k < 16; ++k) {
    const auto* const from =
        shared_memory(turned ? turned_address(operand, line, k) : operand_address(operand, line, 2 * k));
    std::uint16_t bits;
    std::memcpy(&bits, from, sizeof(bits));
    out[k] = static_cast<float>(fourmi::bfloat16::from_bits(bits));
  }
  return 16;
}

/// This thread's part of a product.
inline void finish(const Product& p, std::vector<float>& sum) {
  const unsigned thread = thread_index().x, warp = thread / 32 % 4, lane = thread % 32;
  float a[2][32], b[32];
  for (unsigned half = 0; half < 2; ++half) read_line(p, p.a, p.turned_a, warp * 16 + lane / 4 + 8 * half, a[half]);
  for (unsigned i = 0; i < static_cast<unsigned>(p.columns) / 8; ++i)
    for (unsigned odd = 0; odd < 2; ++odd) {
      const unsigned length = read_line(p, p.b, p.turned_b, 8 * i + lane % 4 * 2 + odd, b);
      for (unsigned half = 0; half < 2; ++half) {
        float& s = sum[4 * i + 2 * half + odd];
        double exact = p.accumulate ? static_cast<double>(s) : 0.0;
        for (unsigned k = 0; k < length; ++k) exact += static_cast<double>(a[half][k]) * static_cast<double>(b[k]);
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
