#include <gtest/gtest.h>

#include <set>

#include "kernels/runtime/error.h"
#include "parallel/groups.h"
#include "tests/parallel/member_threads.h"

namespace fourmi {
namespace {

// The contract's rank order, written as loops: tensor fastest, then context, data, pipeline; expert_tensor fastest,
// then expert, expert_data inside the same stage.
TEST(Mesh, RankOrder) {
  for (const MeshSizes& s :
       {MeshSizes{.ranks = 48, .pipeline = 2, .context = 2, .tensor = 3, .expert = 4, .expert_tensor = 2},
        MeshSizes{.ranks = 48, .pipeline = 3, .context = 1, .tensor = 4, .expert = 8, .expert_tensor = 1},
        MeshSizes{.ranks = 5}}) {
    const Mesh mesh(s);
    int rank = 0;
    for (int p = 0; p < mesh.size(Axis::pipeline); ++p)
      for (int d = 0; d < mesh.size(Axis::data); ++d)
        for (int c = 0; c < mesh.size(Axis::context); ++c)
          for (int t = 0; t < mesh.size(Axis::tensor); ++t, ++rank) {
            EXPECT_EQ(mesh.coordinate(rank, Axis::pipeline), p);
            EXPECT_EQ(mesh.coordinate(rank, Axis::data), d);
            EXPECT_EQ(mesh.coordinate(rank, Axis::context), c);
            EXPECT_EQ(mesh.coordinate(rank, Axis::tensor), t);
          }
    EXPECT_EQ(rank, s.ranks);
    rank = 0;
    for (int p = 0; p < mesh.size(Axis::pipeline); ++p)
      for (int ed = 0; ed < mesh.size(Axis::expert_data); ++ed)
        for (int e = 0; e < mesh.size(Axis::expert); ++e)
          for (int et = 0; et < mesh.size(Axis::expert_tensor); ++et, ++rank) {
            EXPECT_EQ(mesh.coordinate(rank, Axis::pipeline), p);
            EXPECT_EQ(mesh.coordinate(rank, Axis::expert_data), ed);
            EXPECT_EQ(mesh.coordinate(rank, Axis::expert), e);
            EXPECT_EQ(mesh.coordinate(rank, Axis::expert_tensor), et);
          }
    EXPECT_EQ(rank, s.ranks);
  }
}

TEST(Mesh, PeersDifferAlongTheirAxesOnly) {
  const Mesh mesh({.ranks = 32, .pipeline = 2, .context = 2, .tensor = 2, .expert = 4, .expert_tensor = 2});
  for (int rank = 0; rank < 32; ++rank) {
    for (Axis axis : all_axes) {
      const auto peers = mesh.peers(rank, {axis});
      EXPECT_EQ(static_cast<int>(peers.size()), mesh.size(axis));
      std::set<int> coordinates;
      for (int peer : peers) {
        coordinates.insert(mesh.coordinate(peer, axis));
        EXPECT_EQ(
            mesh.coordinate(peer, Axis::pipeline) == mesh.coordinate(rank, Axis::pipeline) || axis == Axis::pipeline,
            true);
        EXPECT_EQ(mesh.peers(peer, {axis}), peers);
      }
      EXPECT_EQ(coordinates.size(), peers.size());
    }
    const auto gradient = mesh.peers(rank, {Axis::data, Axis::context});
    EXPECT_EQ(gradient.size(), 8u);
    for (int peer : gradient) EXPECT_EQ(mesh.coordinate(peer, Axis::tensor), mesh.coordinate(rank, Axis::tensor));
  }
  EXPECT_EQ(mesh.peers(0, {Axis::tensor}), (std::vector<int>{0, 1}));
  EXPECT_EQ(mesh.peers(1, {Axis::context}), (std::vector<int>{1, 3}));
  EXPECT_EQ(mesh.peers(1, {Axis::expert}), (std::vector<int>{1, 3, 5, 7}));
  EXPECT_EQ(mesh.peers(1, {Axis::expert_data}), (std::vector<int>{1, 9}));
  EXPECT_EQ(mesh.peers(1, {Axis::pipeline}), (std::vector<int>{1, 17}));
  EXPECT_THROW(mesh.peers(0, {Axis::tensor, Axis::expert}), Error);
}

std::string first_problem(const MeshSizes& sizes) {
  try {
    Mesh mesh(sizes);
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::usage);
    return e.place() + ": " + e.cause();
  }
}

TEST(Mesh, RefusesSizesThatMakeNoMesh) {
  EXPECT_EQ(first_problem({.ranks = 8, .expert = 3}),
            "parallel.expert: found 3, expected a divisor of 8 (data 8 x context 1 x tensor 1)");
  EXPECT_EQ(first_problem({.ranks = 6, .pipeline = 2, .tensor = 2}),
            "parallel: found 6 ranks, expected a multiple of 4 (pipeline 2 x context 1 x tensor 2)");
  EXPECT_EQ(first_problem({.ranks = 8, .tensor = 2, .data = 8}),
            "parallel.data: found 8, expected 4 (8 ranks / (pipeline 1 x context 1 x tensor 2))");
  EXPECT_EQ(first_problem({.ranks = 8, .expert = 4, .expert_tensor = 4}),
            "parallel.expert: found 4, expected a divisor of 2 (data 8 x context 1 x tensor 1, / expert_tensor 4)");
  EXPECT_EQ(first_problem({.ranks = 8, .expert_tensor = 5}),
            "parallel.expert_tensor: found 5, expected a divisor of 8 (data 8 x context 1 x tensor 1)");
  EXPECT_EQ(first_problem({.ranks = 8, .tensor = 0}), "parallel.tensor: found 0, expected at least 1");
  EXPECT_EQ(first_problem({.ranks = 8, .context = -2}), "parallel.context: found -2, expected at least 1");
  EXPECT_EQ(
      first_problem({.ranks = 8, .pipeline = std::int64_t{1} << 32, .tensor = std::int64_t{1} << 32}).substr(0, 23),
      "parallel: found 8 ranks");
  EXPECT_EQ(check_mesh({.ranks = 8, .pipeline = 0, .tensor = 0}).size(), 2u);
  EXPECT_EQ(check_mesh({.ranks = 8, .expert = 3, .data = 4}).size(), 2u);
  EXPECT_TRUE(check_mesh({.ranks = 8, .tensor = 2, .expert = 8}).empty());
}

TEST(Mesh, LeastRanksMakeAMesh) {
  for (const MeshSizes& s :
       {MeshSizes{}, MeshSizes{.pipeline = 2, .tensor = 2, .expert = 3}, MeshSizes{.context = 2, .data = 4},
        MeshSizes{.tensor = 4, .expert = 8, .expert_tensor = 2}}) {
    MeshSizes with = s;
    with.ranks = least_ranks(s);
    EXPECT_TRUE(check_mesh(with).empty()) << with.ranks;
  }
  EXPECT_EQ(least_ranks({.pipeline = 2, .tensor = 2, .expert = 3}), 12);
}

TEST(Mesh, TableHasARowARank) {
  const std::string table = Mesh({.ranks = 4, .tensor = 2}).table();
  EXPECT_NE(table.find("     3         0     1        0       1            3       0              0\n"),
            std::string::npos)
      << table;
  const std::string cut = Mesh({.ranks = 1000}).table(10);
  EXPECT_EQ(std::count(cut.begin(), cut.end(), '\n'), 13) << cut;
  EXPECT_NE(cut.find("   999 "), std::string::npos);
}

TEST(Mesh, GroupsOfThreads) {
  const Mesh mesh({.ranks = 8, .tensor = 2});
  run_members(8, [&](Group& world) {
    auto tensor = make_group(world, mesh, "tensor", {Axis::tensor});
    auto data = make_group(world, mesh, "data", {Axis::data, Axis::context});
    std::int64_t sum = world.rank();
    data->all_sum(std::span(&sum, 1));
    EXPECT_EQ(sum, world.rank() % 2 == 0 ? 12 : 16);
    tensor->all_sum(std::span(&sum, 1));
    EXPECT_EQ(sum, 28);
    return 0;
  });
}

TEST(RankGroups, AreThoseOfTheMesh) {
  run_members(8, [](Group& world) {
    const RankGroups groups(world, {.ranks = 8, .pipeline = 2, .tensor = 2});
    EXPECT_EQ(groups.data().size(), 2);
    EXPECT_EQ(groups.pipeline().size(), 2);
    EXPECT_EQ(groups.pipeline().rank(), groups.coordinate(Axis::pipeline));
    EXPECT_EQ(groups.data().rank(), groups.coordinate(Axis::data));
    std::int64_t sum = world.rank();
    groups.pipeline().all_sum(std::span(&sum, 1));
    EXPECT_EQ(sum, 2 * (world.rank() % 4) + 4);
    return 0;
  });
  run_members(2, [](Group& world) {
    const RankGroups groups(world);
    EXPECT_EQ(&groups.data(), &world);
    EXPECT_EQ(groups.pipeline().size(), 1);
    return 0;
  });
}

}  // namespace
}  // namespace fourmi
