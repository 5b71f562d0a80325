#include <gtest/gtest.h>

#include "tests/parallel/group_conformance.h"
#include "tests/parallel/member_threads.h"
#include "tests/parallel_mpi/world_of_test.h"

namespace fourmi {
namespace {

TEST(Mpi, LauncherAndMpiAgree) {
  const World& world = *world_of_test();
  EXPECT_TRUE(world.launch().under_launcher);
  EXPECT_EQ(world.launch().local_size, world.size());
  EXPECT_EQ(world.launch().local_rank, world.rank());
}

TEST(Mpi, ConformsAndEqualsThreadsByteForByte) {
  Group& group = world_of_test()->group();
  const auto here = run_conformance(group);
  // Every rank compares its own part; what the thread groups do is checked by their own tests.
  const auto threads = run_members(group.size(), [](Group& g) { return run_conformance(g); });
  EXPECT_TRUE(here == threads[static_cast<std::size_t>(group.rank())]);
}

TEST(Mpi, CancelFreesEveryWait) {
  EXPECT_LT(run_cancellation(world_of_test()->group()), 3.0);
}

TEST(Mpi, SubgroupsConform) {
  Group& group = world_of_test()->group();
  std::vector<int> reversed;
  for (int r = group.size() - 1; r >= 0; --r) reversed.push_back(r);
  auto sub = group.subgroup("reversed", reversed);
  EXPECT_EQ(sub->rank(), group.size() - 1 - group.rank());
  run_conformance(*sub);
}

}  // namespace
}  // namespace fourmi
