#include "kernels/cpu/row_groups.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace fourmi {
namespace {

using Random = std::mt19937_64;

struct Scene {
  std::vector<std::int32_t> offsets, row_token;
  std::int64_t num_rows = 0;
};

/// Experts with 0 to 20 rows, some empty, from a first row that is not 0; tokens ascend in each.
Scene scene(Random& random) {
  Scene s;
  s.offsets.push_back(static_cast<std::int32_t>(random() % 3));
  s.row_token.assign(static_cast<std::size_t>(s.offsets[0]), -1);
  const auto experts = 1 + random() % 5;
  for (std::uint64_t e = 0; e < experts; ++e) {
    const auto rows = random() % 3 == 0 ? 0 : random() % 21;
    std::int32_t token = 0;
    for (std::uint64_t r = 0; r < rows; ++r) s.row_token.push_back(token += static_cast<std::int32_t>(random() % 4));
    s.offsets.push_back(static_cast<std::int32_t>(s.row_token.size()));
  }
  s.num_rows = static_cast<std::int64_t>(s.row_token.size()) + 2;
  return s;
}

/// Row by row: what begins a run, and what begins a group.
std::vector<RowGroup> by_rows(const Scene& s, bool grouped, const Cuts& cuts, std::int64_t size) {
  std::vector<RowGroup> groups;
  const std::size_t experts = grouped ? s.offsets.size() - 1 : 1;
  for (std::size_t e = 0; e < experts; ++e) {
    const std::int64_t first = grouped ? s.offsets[e] : 0, end = grouped ? s.offsets[e + 1] : s.num_rows;
    std::int64_t run = first;
    std::size_t run_groups = groups.size();
    const auto close_run = [&](std::int64_t row) {
      for (; run_groups < groups.size(); ++run_groups) groups[run_groups].run_end = row;
      run = row;
    };
    for (std::int64_t r = first; r < end; ++r) {
      const auto token = [&](std::int64_t row) { return cuts.row_token ? cuts.row_token[row] : row; };
      if (r > first && cuts.rows > 0 && token(r) / cuts.rows != token(r - 1) / cuts.rows) close_run(r);
      if ((r - run) % size == 0)
        groups.push_back({static_cast<std::int64_t>(e), static_cast<std::int64_t>(groups.size()), r, r, run, 0});
      groups.back().end = r + 1;
    }
    close_run(end);
  }
  return groups;
}

TEST(RowGroups, AgainstAWalkOverRows) {
  Random random(11);
  for (int trial = 0; trial < 400; ++trial) {
    const Scene s = scene(random);
    const bool grouped = trial % 3 != 0;
    const std::int64_t size = std::int64_t{1} << random() % 4;
    Cuts cuts{.rows = static_cast<std::int64_t>(random() % 3 == 0 ? 0 : 1 + random() % 9)};
    if (grouped && random() % 2 == 0) cuts.row_token = s.row_token.data();
    RowGroups groups{{}, s.num_rows, cuts, size};
    if (grouped) groups.offsets = s.offsets;
    const auto expected = by_rows(s, grouped, cuts, size);
    std::size_t i = 0;
    std::int64_t runs = 0;
    groups.for_each_run([&](const GroupRun&) { ++runs; });
    groups.for_each_group([&](const RowGroup& g) {
      ASSERT_LT(i, expected.size());
      const RowGroup& want = expected[i++];
      EXPECT_EQ(g.expert, want.expert);
      EXPECT_EQ(g.index, want.index);
      EXPECT_EQ(g.begin, want.begin);
      EXPECT_EQ(g.end, want.end);
      EXPECT_EQ(g.run_begin, want.run_begin);
      EXPECT_EQ(g.run_end, want.run_end);
      EXPECT_EQ(g.first(), g.begin == want.run_begin);
      EXPECT_EQ(g.last(), g.end == want.run_end);
    });
    EXPECT_EQ(i, expected.size()) << trial;
    EXPECT_EQ(groups.num_groups(), static_cast<std::int64_t>(expected.size()));
    EXPECT_LE(groups.num_groups(), s.num_rows / size + runs);  // what a caller allocates
  }
}

}  // namespace
}  // namespace fourmi
