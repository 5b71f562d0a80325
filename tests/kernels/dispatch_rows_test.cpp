#include "kernels/ops/dispatch_rows.h"

#include <array>
#include <bit>
#include <map>

#include "kernels/numerics/random.h"
#include "tests/device/every_stream.h"
#include "tests/device/stream.h"

namespace fourmi {
namespace {

using test::Buffer;
using test::on_streams;

/// Tokens that go to some of P ranks each, at least to one; copies lie by rank and then by token.
struct Places {
  std::int64_t T, C, S = 0;
  Buffer rank, row;
  Places(std::int64_t num_tokens, std::int64_t most, int P)
      : T(num_tokens), C(most), rank(DType::i32, {T, C}), row(DType::i32, {T, C}) {
    const RandomKey key = random_key(3, "test", "places");
    std::vector<std::vector<std::pair<std::int64_t, std::int64_t>>> by_rank(static_cast<std::size_t>(P));
    for (std::int64_t t = 0; t < T; ++t) {
      std::int64_t c = 0;
      for (int p = 0; p < P && c < C; ++p)
        if (random_bits(key, static_cast<std::uint64_t>(t * P + p)) % 3 == 0 || (c == 0 && p == P - 1)) {
          rank.at<std::int32_t>(t * C + c) = p;
          by_rank[static_cast<std::size_t>(p)].emplace_back(t, c++);
        }
      for (; c < C; ++c) rank.at<std::int32_t>(t * C + c) = row.at<std::int32_t>(t * C + c) = -1;
    }
    for (const auto& list : by_rank)
      for (const auto& [t, c] : list) row.at<std::int32_t>(t * C + c) = static_cast<std::int32_t>(S++);
  }
};

double value(std::int64_t i) {
  return random_uniform(random_key(4, "test", "values"), static_cast<std::uint64_t>(i)) - 0.5;
}

TEST(SpreadRows, CopiesEachRowToItsPlaces) {
  for (const std::int64_t row_bytes : {1, 6, 20, 48, 4112}) {
    const Places places(23, 3, 5);
    Buffer rows(DType::u8, {places.T * row_bytes});
    for (std::int64_t i = 0; i < rows.size(); ++i)
      rows.at<std::uint8_t>(i) = static_cast<std::uint8_t>(i * 7 + i / 251);
    on_streams([&](const Stream& stream) {
      Buffer copies(DType::u8, {places.S * row_bytes});
      spread_rows(stream, rows, row_bytes, places.row, copies);
      for (std::int64_t i = 0; i < places.T * places.C; ++i)
        for (std::int64_t b = 0; b < row_bytes && places.row.id(i) >= 0; ++b)
          ASSERT_EQ(copies.at<std::uint8_t>(places.row.id(i) * row_bytes + b),
                    rows.at<std::uint8_t>(i / places.C * row_bytes + b))
              << "row of " << row_bytes << ", choice " << i;
    });
  }
}

/// The tree over ranks [low, low + width), absent ones being zeros: the definition.
template <class A>
A tree(const std::map<int, A>& copies, int low, int width) {
  if (width == 1) return copies.count(low) ? A{0} + copies.at(low) : A{0};
  return tree(copies, low, width / 2) + tree(copies, low + width / 2, width / 2);
}

template <class A>
void expect_trees(DType y_dtype, std::int64_t D, int P, std::int64_t C, bool with_addends) {
  const Places places(19, C, P);
  const DType acc = accumulate_dtype(y_dtype);
  Buffer copies(acc, {places.S, D}), first(y_dtype, {places.T, D}), second(acc, {places.T, D});
  copies.fill([](std::int64_t i) { return value(i); });
  first.fill([](std::int64_t i) { return value(i + 1000000); });
  second.fill([](std::int64_t i) { return value(i + 2000000); });
  on_streams([&](const Stream& stream) {
    Buffer y(y_dtype, {places.T, D});
    sum_copies(stream, {places.rank, places.row, P}, copies, y, with_addends ? first.tensor() : Tensor(),
               with_addends ? second.tensor() : Tensor());
    Buffer expected(y_dtype, {places.T, D});
    for (std::int64_t t = 0; t < places.T; ++t)
      for (std::int64_t d = 0; d < D; ++d) {
        std::map<int, A> present;
        for (std::int64_t i = t * C; i < (t + 1) * C && places.rank.id(i) >= 0; ++i)
          present[places.rank.id(i)] = copies.at<A>(places.row.id(i) * D + d);
        A sum = tree(present, 0, static_cast<int>(std::bit_ceil(static_cast<unsigned>(P))));
        if (with_addends) {
          sum += static_cast<A>(first.get(t * D + d));
          sum += static_cast<A>(second.get(t * D + d));
        }
        expected.set(t * D + d, static_cast<double>(sum));
      }
    EXPECT_TRUE(y == expected) << name_of(y_dtype) << " " << D << " columns, " << P << " ranks";
  });
}

TEST(SumOfCopies, IsTheTreeOverAllRanksToTheBit) {
  for (const bool with_addends : {false, true})
    for (const std::int64_t D : {1, 7, 16, 264}) {
      expect_trees<float>(DType::f32, D, 6, 4, with_addends);
      expect_trees<float>(DType::bf16, D, 64, 8, with_addends);
      expect_trees<double>(DType::f64, D, 9, 9, with_addends);
    }
}

/// A card asks for a few copies at a time: fewer of them, some more, and several times as many; trees of one rank up to
/// the most that there may be.
TEST(SumOfCopies, OfFewAndOfManyRanks) {
  struct Case {
    int P;
    std::int64_t C;
  };
  for (const Case& c : {Case{1, 1}, {2, 2}, {5, 3}, {8, 5}, {17, 13}, {1024, 9}, {1000, 21}})
    for (const std::int64_t D : {3, 24}) {
      expect_trees<float>(DType::bf16, D, c.P, c.C, D == 3);
      expect_trees<float>(DType::f32, D, c.P, c.C, D == 24);
    }
}

TEST(SumOfCopies, WithoutPlacesIsARowsOwnOrder) {
  Buffer copies(DType::f32, {5, 8}), base(DType::f32, {5, 8});
  copies.fill([](std::int64_t i) { return value(i); });
  base.fill([](std::int64_t i) { return value(i + 77); });
  on_streams([&](const Stream& stream) {
    Buffer y(base);
    sum_copies(stream, {}, copies, y, y);
    for (std::int64_t i = 0; i < y.size(); ++i) EXPECT_EQ(y.at<float>(i), copies.at<float>(i) + base.at<float>(i));
  });
}

TEST(Records, CarryIdsAndWeightsToTheRankThatHasTheExperts) {
  for (const DType weights_dtype : {DType::f32, DType::f64})
    for (const std::int64_t K : {1, 3, 8}) {
      const std::int64_t T = 29;
      Buffer experts(DType::i32, {T, K}), weights(weights_dtype, {T, K});
      for (std::int64_t i = 0; i < T * K; ++i) experts.at<std::int32_t>(i) = static_cast<std::int32_t>(i * 5 % 16);
      weights.fill([](std::int64_t i) { return value(i); });
      on_streams([&](const Stream& stream) {
        Buffer records(DType::u8, {T * record_bytes(K, weights_dtype)}), ids(DType::i32, {T, K}),
            got(weights_dtype, {T, K});
        pack_records(stream, experts, weights, records);
        unpack_records(stream, records, 4, 8, ids, got);
        for (std::int64_t i = 0; i < T * K; ++i) {
          const std::int32_t e = experts.id(i);
          const bool local = e >= 4 && e < 12;
          EXPECT_EQ(ids.id(i), local ? e - 4 : -1) << i;
          EXPECT_EQ(got.get(i), local ? weights.get(i) : 0) << i;
        }
      });
    }
}

}  // namespace
}  // namespace fourmi
