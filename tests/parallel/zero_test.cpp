#include "parallel/zero.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "kernels/runtime/error.h"
#include "tests/parallel/here.h"
#include "tests/parallel/member_threads.h"

namespace fourmi {
namespace {

std::vector<ShardTensor> laid_out(const std::vector<Shape>& shapes) {
  std::vector<ShardTensor> tensors;
  std::int64_t offset = 0;
  for (const Shape& s : shapes) {
    tensors.push_back({fmt::format("t{}", tensors.size()), s, offset});
    offset += s.num_elements();
  }
  return tensors;
}

// A small model: large, middling and tiny tensors, odd rows, an empty tensor, a scalar, a 1-D tensor of many panels.
std::vector<Shape> shapes() {
  return {{1000, 24}, {24},   {300, 24}, {129, 3}, {128, 3}, {127, 3},    {1, 5},     {0, 7}, {},
          {24},       {1500}, {64, 24},  {64, 24}, {64, 24}, {256, 8, 3}, {2048, 24}, {1}};
}

class Zero : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, Zero, testing::Values(1, 2, 3, 4, 5, 8, 64));

TEST_P(Zero, EveryRowHasOneOwnerInWholePanels) {
  const auto tensors = laid_out(shapes());
  const ShardPlan plan(tensors, GetParam());
  std::vector<std::vector<int>> owned;
  for (const auto& t : tensors) owned.emplace_back(t.shape.rank ? t.shape[0] : 1, 0);
  std::int64_t total = 0;
  for (int r = 0; r < plan.group_size(); ++r) {
    std::set<std::size_t> seen;
    std::int64_t offset = 0;
    for (const RowRun& run : plan.runs(r)) {
      EXPECT_TRUE(seen.insert(run.tensor).second) << "two runs of one tensor on a rank";
      EXPECT_TRUE(seen.size() == 1 || *seen.rbegin() == run.tensor) << "out of order";
      const ShardTensor& t = tensors[run.tensor];
      const auto rows = static_cast<std::int64_t>(owned[run.tensor].size());
      const std::int64_t row_elements = t.shape.num_elements() / rows;
      EXPECT_EQ(run.first_row % ShardPlan::panel_rows, 0);
      EXPECT_TRUE(run.num_rows % ShardPlan::panel_rows == 0 || run.first_row + run.num_rows == rows);
      EXPECT_GT(run.num_rows, 0);
      EXPECT_EQ(run.num_elements, run.num_rows * row_elements);
      EXPECT_EQ(run.flat_offset, t.offset + run.first_row * row_elements);
      EXPECT_EQ(run.offset, offset);
      offset += run.num_elements;
      for (std::int64_t row = run.first_row; row < run.first_row + run.num_rows; ++row)
        ++owned[run.tensor][static_cast<std::size_t>(row)];
    }
    EXPECT_EQ(plan.shard_elements(r), offset);
    total += offset;
  }
  for (std::size_t t = 0; t < owned.size(); ++t)
    for (int count : owned[t]) EXPECT_EQ(count, tensors[t].shape.num_elements() == 0 ? 0 : 1) << "tensor " << t;
  std::int64_t all = 0;
  for (const auto& t : tensors) all += t.shape.num_elements();
  EXPECT_EQ(total, all);
}

TEST_P(Zero, LoadsDifferByLessThanTheLargestPanel) {
  for (const auto& list : {shapes(), std::vector<Shape>(200, Shape{64, 32}), std::vector<Shape>(33, Shape{1280, 16}),
                           std::vector<Shape>{{384, 8}, {384, 8}, {384, 8}}}) {
    const ShardPlan plan(laid_out(list), GetParam());
    std::int64_t most = 0, least = std::numeric_limits<std::int64_t>::max(), panel = 0;
    for (int r = 0; r < plan.group_size(); ++r) {
      most = std::max(most, plan.shard_elements(r));
      least = std::min(least, plan.shard_elements(r));
    }
    for (const Shape& s : list)
      if (s.rank > 0 && s[0] > 0)
        panel = std::max(panel, std::min(s[0], ShardPlan::panel_rows) * (s.num_elements() / s[0]));
    EXPECT_LE(most - least, panel) << "of " << list.size() << " tensors";
  }
}

// Sums of small integers are exact in any order, so N ranks must equal a plain loop; the update is a stand-in for an
// optimizer that uses each element's gradient and place.
template <class T>
void step_case(int num_ranks) {
  const auto tensors = laid_out(shapes());
  const ShardPlan plan(tensors, num_ranks);
  const auto size = static_cast<std::size_t>(tensors.back().offset + 1);
  const auto gradient = [&](int rank, std::size_t i) {
    return static_cast<T>(static_cast<int>((i * 7 + 13 * static_cast<std::size_t>(rank)) % 101) - 50);
  };
  const auto update = [](T sum, std::int64_t i) { return static_cast<T>(2) * sum + static_cast<T>(i % 17); };
  std::vector<T> expected(size);
  for (std::size_t i = 0; i < size; ++i) {
    T sum = 0;
    for (int r = 0; r < num_ranks; ++r) sum += gradient(r, i);
    expected[i] = update(sum, static_cast<std::int64_t>(i));
  }
  run_members(num_ranks, [&](Group& g) {
    std::vector<T> flat(size), weights(size, T(NAN));
    for (std::size_t i = 0; i < size; ++i) flat[i] = gradient(g.rank(), i);
    std::vector<T> shard(static_cast<std::size_t>(plan.shard_elements(g.rank())), T(NAN));
    std::vector<std::byte> memory(static_cast<std::size_t>(zero_scratch_bytes(plan, dtype_of<T>)));
    const auto view = [](auto& v) { return Tensor(v.data(), dtype_of<T>, {static_cast<std::int64_t>(v.size())}); };
    const Tensor scratch(memory.data(), DType::u8, {static_cast<std::int64_t>(memory.size())});
    reduce_scatter_gradients(here(), g, plan, view(flat), view(shard), scratch);
    for (const RowRun& run : plan.runs(g.rank()))
      for (std::int64_t i = 0; i < run.num_elements; ++i) {
        T& x = shard[static_cast<std::size_t>(run.offset + i)];
        x = update(x, run.flat_offset + i);
      }
    all_gather_parameters(here(), g, plan, view(shard), view(weights), scratch);
    EXPECT_EQ(std::memcmp(weights.data(), expected.data(), size * sizeof(T)), 0) << "rank " << g.rank();
    return 0;
  });
}

TEST_P(Zero, AStepEqualsOneRank) {
  if (GetParam() > 8) return;
  step_case<float>(GetParam());
  step_case<double>(GetParam());
}

// Rows with scales: every byte of every tensor is one rank's, and comes to all in its place.
TEST_P(Zero, CopiesWithScalesTravelAsBytes) {
  if (GetParam() > 8) return;
  const std::vector<Shape> matrices{{128, 128}, {400, 96}, {64, 256}, {1280, 32}, {129, 128}};
  const auto tensors = laid_out(matrices);
  const ShardPlan plan(tensors, GetParam());
  for (const DType dtype : {DType::e4m3_panels, DType::mxe4m3_rows, DType::e4m3_rows}) {
    std::vector<std::int64_t> first_byte;
    std::int64_t bytes = 0;
    for (const Shape& s : matrices) first_byte.push_back(bytes), bytes += bytes_of(dtype, s);
    const Ownership owners = byte_owners(plan, dtype, first_byte);
    std::vector<int> owned(static_cast<std::size_t>(bytes));
    for (int r = 0; r < plan.group_size(); ++r) {
      EXPECT_EQ(owners.num_elements(r), shard_bytes(plan, r, dtype));
      for (const Piece& p : owners.pieces(r))
        for (std::int64_t i = 0; i < p.count; ++i) ++owned[static_cast<std::size_t>(p.flat + i)];
    }
    EXPECT_EQ(owned, std::vector<int>(owned.size(), 1));
    run_members(GetParam(), [&](Group& g) {
      std::vector<std::uint8_t> mine, flat(static_cast<std::size_t>(bytes));
      const auto expected = [](std::int64_t i) { return static_cast<std::uint8_t>(i * 37 + i / 251); };
      // A run's bytes are those of its rows in the tensor.
      for (const RowRun& run : plan.runs(g.rank())) {
        const Shape& s = matrices[run.tensor];
        const std::int64_t begin = first_byte[run.tensor] + bytes_of(dtype, {run.first_row, s[1]});
        for (std::int64_t i = 0; i < bytes_of(dtype, {run.num_rows, s[1]}); ++i) mine.push_back(expected(begin + i));
      }
      const auto view = [](auto& v) { return Tensor(v.data(), DType::u8, {static_cast<std::int64_t>(v.size())}); };
      std::vector<std::uint8_t> memory(static_cast<std::size_t>(scratch_bytes_for(owners, DType::u8)));
      all_gather(here(), g, owners, view(mine), view(flat), view(memory));
      for (std::int64_t i = 0; i < bytes; ++i)
        if (flat[static_cast<std::size_t>(i)] != expected(i)) {
          ADD_FAILURE() << "byte " << i << " of rank " << g.rank();
          break;
        }
      return 0;
    });
  }
}

TEST(ZeroPlan, OneRankHasTheFlatLayout) {
  const auto tensors = laid_out(shapes());
  const ShardPlan plan(tensors, 1);
  for (const RowRun& run : plan.runs(0)) EXPECT_EQ(run.offset, run.flat_offset);
  EXPECT_TRUE(plan.owners().is_identity());
  EXPECT_EQ(zero_scratch_bytes(plan, DType::f32), 0);
}

TEST(ZeroPlan, NoTensors) {
  const ShardPlan plan({}, 4);
  run_members(4, [&](Group& g) {
    Tensor nothing(nullptr, DType::f32, {0}), scratch(nullptr, DType::u8, {0});
    reduce_scatter_gradients(here(), g, plan, nothing, nothing, scratch);
    all_gather_parameters(here(), g, plan, nothing, nothing, scratch);
    return 0;
  });
  EXPECT_THROW(ShardPlan({}, 0), Error);
}

}  // namespace
}  // namespace fourmi
