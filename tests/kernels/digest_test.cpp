#include "kernels/numerics/digest.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/numerics/mix.h"
#include "kernels/numerics/random.h"

namespace fourmi {
namespace {

std::vector<std::byte> random_bytes(std::size_t n, std::uint64_t seed) {
  std::vector<std::byte> bytes(n);
  const RandomKey key = random_key(seed, "test", "digest");
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(random_bits(key, i));
  return bytes;
}

constexpr DType all_dtypes[] = {DType::f64, DType::f32, DType::bf16, DType::fx128, DType::i64, DType::i32, DType::u8};

TEST(Digest, EverySplitAddsUpToTheWhole) {
  for (DType dtype : all_dtypes) {
    constexpr std::int64_t n = 23;
    auto bytes = random_bytes(static_cast<std::size_t>(n * size_of(dtype)), 1);
    const Tensor whole(bytes.data(), dtype, {n});
    const uint128 expected = digest("w", whole, 100);
    for (std::int64_t a = 0; a <= n; ++a)
      for (std::int64_t b = a; b <= n; ++b) {
        uint128 sum = digest("w", whole.rows(b, n), 100 + static_cast<std::uint64_t>(b));
        sum += digest("w", whole.rows(0, a), 100);
        sum += digest("w", whole.rows(a, b), 100 + static_cast<std::uint64_t>(a));
        ASSERT_TRUE(sum == expected) << name_of(dtype) << " split at " << a << ", " << b;
      }
  }
}

TEST(Digest, ColumnsAddUpToTheWhole) {
  constexpr std::int64_t rows = 7, columns = 11;
  for (DType dtype : all_dtypes) {
    const auto size = static_cast<std::size_t>(size_of(dtype));
    auto bytes = random_bytes(rows * columns * size, 5);
    const uint128 expected = digest("w", Tensor(bytes.data(), dtype, {rows, columns}), 0);
    for (std::size_t cut = 1; cut < columns; ++cut) {
      uint128 sum = 0;
      for (const auto& [first, n] : {std::pair(std::size_t{0}, cut), {cut, columns - cut}}) {
        std::vector<std::byte> part(rows * n * size);
        for (std::size_t r = 0; r < rows; ++r)
          std::memcpy(part.data() + r * n * size, bytes.data() + (r * columns + first) * size, n * size);
        const Tensor x(part.data(), dtype, {static_cast<std::int64_t>(rows * n)});
        const ElementRuns runs{first, n, columns};
        const uint128 at_once = digest("w", x, runs);
        sum += at_once;
        for (std::int64_t at = 0; at <= x.num_elements(); ++at)  // pieces that begin and end inside a row
          ASSERT_TRUE(digest("w", x.rows(0, at), runs) +
                          digest("w", x.rows(at, x.num_elements()), runs, static_cast<std::uint64_t>(at)) ==
                      at_once)
              << name_of(dtype) << " columns from " << first << ", piece of " << at;
      }
      ASSERT_TRUE(sum == expected) << name_of(dtype) << " cut at " << cut;
    }
  }
  float x = 0;
  EXPECT_THROW(digest("w", Tensor(&x, DType::f32, {1}), ElementRuns{0, 0, 1}), Error);
  EXPECT_THROW(digest("w", Tensor(&x, DType::f32, {1}), ElementRuns{0, 2, 1}), Error);
}

TEST(Digest, EveryInstructionSetGivesTheSame) {
  for (DType dtype : all_dtypes)
    for (std::int64_t n : {1, 7, 64, 1003}) {
      auto bytes = random_bytes(static_cast<std::size_t>(n * size_of(dtype)), 4);
      const Tensor x(bytes.data(), dtype, {n});
      const uint128 expected = digest("w", x, (std::uint64_t{1} << 33) + 5, Isa::portable);
      for (Isa isa : {Isa::avx2, Isa::avx512})
        if (has_isa(isa)) {
          ASSERT_TRUE(digest("w", x, (std::uint64_t{1} << 33) + 5, isa) == expected) << name_of(dtype) << " " << n;
        }
    }
}

TEST(Digest, EveryFlippedBitChangesBothHalves) {
  for (DType dtype : all_dtypes) {
    constexpr std::int64_t n = 9;
    auto bytes = random_bytes(static_cast<std::size_t>(n * size_of(dtype)), 2);
    const Tensor x(bytes.data(), dtype, {n});
    const uint128 expected = digest("w", x, 0);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      bytes[bit / 8] ^= std::byte{1} << (bit % 8);
      const uint128 changed = digest("w", x, 0);
      bytes[bit / 8] ^= std::byte{1} << (bit % 8);
      ASSERT_NE(static_cast<std::uint64_t>(changed), static_cast<std::uint64_t>(expected)) << name_of(dtype);
      ASSERT_NE(static_cast<std::uint64_t>(changed >> 64), static_cast<std::uint64_t>(expected >> 64));
    }
    ASSERT_TRUE(digest("w", x, 0) == expected);
  }
}

TEST(Digest, DependsOnNameAndPlace) {
  auto bytes = random_bytes(64 * 4, 3);
  const Tensor x(bytes.data(), DType::f32, {64});
  const uint128 expected = digest("a", x, 0);
  EXPECT_FALSE(digest("b", x, 0) == expected);
  EXPECT_FALSE(digest("a", x, 1) == expected);
  EXPECT_FALSE(digest(std::string_view("a\0", 2), x, 0) == expected);
  std::swap_ranges(bytes.begin(), bytes.begin() + 4, bytes.begin() + 40);  // two elements change places
  EXPECT_FALSE(digest("a", x, 0) == expected);
}

// The definition of docs/numerics.md "Digests", written once more with 128-bit sums.
TEST(Digest, EqualsTheDefinition) {
  auto bytes = random_bytes(50 * 4, 4);
  const Tensor x(bytes.data(), DType::i32, {50});
  const std::uint64_t key_low = mix_text(0x6a09e667f3bcc908u, "name"), key_high = mix_text(0xbb67ae8584caa73bu, "name");
  uint128 sum = 0;
  for (std::uint64_t i = 0; i < 50; ++i) {
    const std::uint64_t w = static_cast<std::uint32_t>(x.as<std::int32_t>()[i]), index = 7 + i;
    const std::uint64_t low = mix64((key_low + index * 0x9e3779b97f4a7c15u) ^ w);
    std::uint64_t high = key_high + index * 0xd1342543de82ef95u + w;
    high = (high ^ (high >> 33)) * 0xff51afd7ed558ccdu;
    high = (high ^ (high >> 29)) * 0xc4ceb9fe1a85ec53u;
    high ^= high >> 32;
    sum += static_cast<uint128>(high) << 64 | low;
  }
  EXPECT_TRUE(digest("name", x, 7) == sum);
}

// A checkpoint of any version must stay readable: these values may never change.
TEST(Digest, ValuesStay) {
  std::vector<float> x(5);
  std::iota(x.begin(), x.end(), 1.0f);
  EXPECT_EQ(digest_text(digest("model.norm.weight", Tensor(x.data(), DType::f32, {5}), 0)),
            "c36003c998f9054dd197d8f6b4369ef8");
  EXPECT_EQ(digest_text(digest("model.norm.weight", Tensor(nullptr, DType::f32, {0}), 0)), std::string(32, '0'));
}

TEST(Digest, TextBothWays) {
  const uint128 value = static_cast<uint128>(0x0123456789abcdefu) << 64 | 0xfedcba9876543210u;
  EXPECT_EQ(digest_text(value), "0123456789abcdeffedcba9876543210");
  ASSERT_TRUE(parse_digest("0123456789ABCDEFfedcba9876543210").has_value());
  EXPECT_TRUE(*parse_digest("0123456789ABCDEFfedcba9876543210") == value);
  EXPECT_FALSE(parse_digest("0123456789abcdeffedcba987654321"));
  EXPECT_FALSE(parse_digest("0123456789abcdeffedcba98765432100"));
  EXPECT_FALSE(parse_digest("g123456789abcdeffedcba9876543210"));
  EXPECT_FALSE(parse_digest(""));
}

}  // namespace
}  // namespace fourmi
