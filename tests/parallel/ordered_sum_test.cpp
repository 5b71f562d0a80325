#include "parallel/ordered_sum.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "kernels/numerics/fixed128.h"
#include "kernels/runtime/error.h"
#include "tests/parallel/here.h"
#include "tests/parallel/member_threads.h"

namespace fourmi {
namespace {

template <class T>
Tensor tensor(std::vector<T>& v) {
  return Tensor(v.data(), dtype_of<T>, {static_cast<std::int64_t>(v.size())});
}
Tensor bytes(std::vector<std::byte>& v) {
  return Tensor(v.data(), DType::u8, {static_cast<std::int64_t>(v.size())});
}

// A flat buffer of 5000 elements cut at random places, each part given to a random rank (the last rank gets nothing),
// some to nobody.
std::vector<std::vector<Piece>> random_pieces(int num_ranks, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::vector<Piece>> pieces(static_cast<std::size_t>(num_ranks));
  for (std::int64_t at = 0; at < 5000;) {
    const std::int64_t n = std::min<std::int64_t>(5000 - at, random() % 400);
    const auto owner = random() % static_cast<unsigned>(std::max(2, num_ranks));
    if (owner < static_cast<unsigned>(std::max(1, num_ranks - 1))) pieces[owner].push_back({at, 0, n});
    at += n;
  }
  return pieces;
}

// Of very unequal sizes, so that another order gives other bits.
template <class T>
std::vector<T> values_of(int rank, unsigned spread = sizeof(T) == 4 ? 24 : 52) {
  std::mt19937 random(static_cast<unsigned>(rank) + 77);
  std::vector<T> v(5000);
  for (T& x : v)
    x = static_cast<T>(std::ldexp(static_cast<double>(random()) - 0x1p31, static_cast<int>(random() % spread) - 40));
  v[3] = static_cast<T>(-0.0);
  return v;
}

template <class T>
void ordered_sum_case(int num_ranks, std::int64_t scratch_size) {
  const auto pieces = random_pieces(num_ranks, 5);
  const Ownership owners(pieces);
  std::vector<T> forward(5000), backward(5000);
  for (int r = 0; r < num_ranks; ++r) {
    const auto up = values_of<T>(r), down = values_of<T>(num_ranks - 1 - r);
    for (std::size_t i = 0; i < 5000; ++i) {
      forward[i] = r == 0 ? up[i] : forward[i] + up[i];
      backward[i] = r == 0 ? down[i] : backward[i] + down[i];
    }
  }
  if (num_ranks > 2) {
    EXPECT_NE(std::memcmp(forward.data(), backward.data(), 5000 * sizeof(T)), 0);
  }
  run_members(num_ranks, [&](Group& g) {
    auto flat = values_of<T>(g.rank());
    std::vector<T> mine(static_cast<std::size_t>(owners.num_elements(g.rank())) + 1,
                        std::numeric_limits<T>::quiet_NaN());
    std::vector<std::byte> scratch(static_cast<std::size_t>(scratch_size), std::byte{0xff});
    reduce_scatter(here(), g, owners, tensor(flat), tensor(mine), bytes(scratch));
    std::size_t packed = 0;
    for (const Piece& p : pieces[static_cast<std::size_t>(g.rank())])
      for (std::int64_t i = 0; i < p.count; ++i, ++packed) {
        const T sum = forward[static_cast<std::size_t>(p.flat + i)];
        if (std::memcmp(&mine[packed], &sum, sizeof(T)) != 0) {
          ADD_FAILURE() << "element " << p.flat + i << ": " << mine[packed] << " for " << sum;
          return 1;
        }
      }
    EXPECT_EQ(static_cast<std::int64_t>(packed), owners.num_elements(g.rank()));
    EXPECT_TRUE(std::isnan(mine.back()));

    // And back: everybody has every owned sum; what nobody owns stays.
    std::vector<T> all(5000, T(-7));
    all_gather(here(), g, owners, tensor(mine), tensor(all), bytes(scratch));
    std::vector<T> expected(5000, T(-7));
    for (const auto& list : pieces)
      for (const Piece& p : list)
        for (std::int64_t i = p.flat; i < p.flat + p.count; ++i)
          expected[static_cast<std::size_t>(i)] = forward[static_cast<std::size_t>(i)];
    EXPECT_EQ(std::memcmp(all.data(), expected.data(), 5000 * sizeof(T)), 0);
    return 0;
  });
}

class OrderedSum : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, OrderedSum, testing::Values(1, 2, 3, 4, 8));

TEST_P(OrderedSum, RankOrderWhateverTheScratch) {
  const int n = GetParam();
  for (std::int64_t scratch : {2 * n * 8 * 37, 2 * n * 8 * 1000, 2 * n * 8 * 5000}) {
    ordered_sum_case<float>(n, scratch);
    ordered_sum_case<double>(n, scratch);
  }
}

TEST(OrderedSum, OneElementAtATime) {
  for (std::int64_t elements : {1, 2, 3}) ordered_sum_case<float>(2, elements * 2 * 4);
}

TEST_P(OrderedSum, FixedPointIsExactAndRoundsOnce) {
  const int n = GetParam();
  const Ownership owners(random_pieces(n, 9));
  std::vector<int128> total(5000, 0);
  const auto partials = [](int rank) {
    std::vector<int128> v;
    for (double x : values_of<double>(rank, 24)) v.push_back(to_fixed128(x));
    return v;
  };
  for (int r = 0; r < n; ++r) {
    const auto v = partials(r);
    for (std::size_t i = 0; i < 5000; ++i) total[i] += v[i];
  }
  run_members(n, [&](Group& g) {
    auto flat = partials(g.rank());
    const auto size = static_cast<std::size_t>(owners.num_elements(g.rank()));
    std::vector<int128> exact(size, -1);
    std::vector<float> single(size, NAN);
    std::vector<double> twice(size, NAN);
    std::vector<std::byte> scratch(
        static_cast<std::size_t>(std::max<std::int64_t>(scratch_bytes_for(owners, DType::fx128), 1)));
    reduce_scatter(here(), g, owners, tensor(flat), tensor(exact), bytes(scratch));
    reduce_scatter(here(), g, owners, tensor(flat), tensor(single), bytes(scratch));
    reduce_scatter(here(), g, owners, tensor(flat), tensor(twice), bytes(scratch));
    for (const Piece& p : owners.pieces(g.rank()))
      for (std::int64_t i = 0; i < p.count; ++i) {
        const auto k = static_cast<std::size_t>(p.packed + i);
        const int128 sum = total[static_cast<std::size_t>(p.flat + i)];
        EXPECT_TRUE(exact[k] == sum);
        EXPECT_EQ(single[k], from_fixed128<float>(sum));
        // 80 bits hold these sums to well below half a unit of an f32.
        EXPECT_EQ(twice[k], static_cast<double>(std::ldexp(static_cast<long double>(sum), -64)));
      }
    return 0;
  });
}

TEST(OrderedSum, PiecesThatContinueAreJoined) {
  const Ownership owners({{{0, 0, 5}, {5, 0, 7}, {12, 0, 0}, {20, 0, 1}}, {}});
  ASSERT_EQ(owners.pieces(0).size(), 2u);
  EXPECT_EQ(owners.pieces(0)[0].count, 12);
  EXPECT_EQ(owners.pieces(0)[1].packed, 12);
  EXPECT_EQ(owners.num_elements(0), 13);
  EXPECT_EQ(owners.num_elements(1), 0);
  EXPECT_FALSE(owners.is_identity());
  EXPECT_TRUE(Ownership({{{0, 0, 5}, {5, 0, 7}}}).is_identity());
  EXPECT_FALSE(Ownership({{{1, 0, 5}}}).is_identity());
}

TEST(OrderedSum, OneRankInPlaceTouchesNothing) {
  auto self = make_self_group("self");
  const Ownership owners({{{0, 0, 100}}});
  std::vector<float> v = values_of<float>(0);
  const auto before = v;
  Tensor none;
  reduce_scatter(here(), *self, owners, tensor(v), tensor(v), none);
  all_gather(here(), *self, owners, tensor(v), tensor(v), none);
  EXPECT_EQ(std::memcmp(v.data(), before.data(), v.size() * sizeof(float)), 0);
}

TEST(OrderedSum, RefusesWhatItCannotSum) {
  auto self = make_self_group("self");
  const Ownership owners({{{0, 0, 4}}});
  std::vector<float> f(4);
  std::vector<double> d(4);
  std::vector<std::int64_t> i(4);
  EXPECT_THROW(reduce_scatter(here(), *self, owners, tensor(f), tensor(d), {}), Error);
  EXPECT_THROW(reduce_scatter(here(), *self, owners, tensor(i), tensor(i), {}), Error);
  EXPECT_THROW(all_gather(here(), *self, owners, tensor(f), tensor(d), {}), Error);
  std::vector<float> small(3);
  EXPECT_THROW(reduce_scatter(here(), *self, owners, tensor(f), tensor(small), {}), Error);
  EXPECT_THROW(reduce_scatter(here(), *self, Ownership({{}, {}}), tensor(f), tensor(f), {}), Error);
}

TEST_P(OrderedSum, SmallVectorsInRankOrder) {
  const int n = GetParam();
  std::vector<double> expected(9);
  for (int r = 0; r < n; ++r)
    for (std::size_t i = 0; i < 9; ++i)
      expected[i] = r == 0 ? values_of<double>(r)[i] : expected[i] + values_of<double>(r)[i];
  run_members(n, [&](Group& g) {
    auto v = values_of<double>(g.rank());
    v.resize(9);
    all_sum_ordered(g, v);
    EXPECT_EQ(std::memcmp(v.data(), expected.data(), 9 * sizeof(double)), 0);
    return 0;
  });
}

}  // namespace
}  // namespace fourmi
