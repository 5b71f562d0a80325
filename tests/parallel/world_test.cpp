#include "parallel/world.h"

#include <gtest/gtest.h>

#include <map>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

LaunchInfo read(const std::map<std::string, std::string>& variables) {
  return read_launcher([&](const char* name) {
    const auto it = variables.find(name);
    return it == variables.end() ? nullptr : it->second.c_str();
  });
}

TEST(Launcher, KnowsWhoStartedIt) {
  EXPECT_FALSE(read({}).under_launcher);
  EXPECT_FALSE(read({{"SLURM_STEP_NUM_TASKS", "8"}, {"OMPI_MCA_pml", "ob1"}}).under_launcher);
  const LaunchInfo mpirun = read({{"OMPI_COMM_WORLD_SIZE", "8"},
                                  {"OMPI_COMM_WORLD_RANK", "5"},
                                  {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                  {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}});
  EXPECT_TRUE(mpirun.under_launcher);
  EXPECT_EQ(mpirun.rank, 5);
  EXPECT_EQ(mpirun.size, 8);
  EXPECT_EQ(mpirun.local_rank, 1);
  EXPECT_EQ(mpirun.local_size, 4);
  const LaunchInfo srun = read({{"PMIX_RANK", "3"}});
  EXPECT_TRUE(srun.under_launcher);
  EXPECT_EQ(srun.rank, 3);
  EXPECT_EQ(srun.size, 0);
  EXPECT_EQ(read({{"PMI_RANK", "2"}, {"PMI_SIZE", "4"}}).size, 4);
}

TEST(Launcher, RefusesWhatIsNoNumber) {
  for (const char* text : {"", "x", "3x", "-1", "99999999999"}) {
    try {
      read({{"OMPI_COMM_WORLD_SIZE", text}});
      FAIL() << "accepted '" << text << "'";
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::environment);
      EXPECT_EQ(e.place(), "OMPI_COMM_WORLD_SIZE");
    }
  }
}

TEST(World, OneRankWithoutALauncher) {
  World world{LaunchInfo{}};
  EXPECT_EQ(world.size(), 1);
  EXPECT_EQ(world.group().size(), 1);
  world.group().barrier();
  world.abandon("a test");
  EXPECT_THROW(world.group().barrier(), Error);
}

}  // namespace
}  // namespace fourmi
