// Blocks that run side by side on the emulated card: one may wait for another, which no other launch allows, and each
// has its own barriers and shared memory. Only for the emulated card.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/cuda_on_cpu/cuda_runtime_api.h"

namespace cuda_on_cpu {
namespace {

/// Block 0 waits for what block 1 does, and block 1 for block 0's answer.
void talk(bool together) {
  int said[2] = {};
  run_kernel({2, 1, 1}, {64, 1, 1}, 64, "a talk", together, [&] {
    const unsigned me = block_index().x;
    auto* const shared = reinterpret_cast<int*>(dynamic_shared());
    if (thread_index().x == 0) {
      shared[0] = static_cast<int>(me) + 1;
      if (me == 1) said[1] = 1;
      wait_until([&] { return said[1 - me] != 0; }, "the other block");
      if (me == 0) said[0] = 1;
    }
    barrier(0, 64);
    if (shared[0] != static_cast<int>(me) + 1) std::abort();
  });
  EXPECT_EQ(said[0], 1);
}

TEST(BlocksTogether, WaitForOneAnother) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    set_seed(seed);
    talk(true);
  }
}
TEST(BlocksTogetherDeath, OneAfterAnotherTheyCannot) {
  EXPECT_DEATH(talk(false), "threads wait for ever(.|\n)*the other block");
}
TEST(BlocksTogether, AreNoMoreThanTheCardHolds) {
  cudaLaunchAttribute together{cudaLaunchAttributeCooperative, {1}};
  cudaLaunchConfig_t config{dim3(9), dim3(1024), 0, nullptr, &together, 1};
  EXPECT_EQ(check_launch(nullptr, config), cudaErrorCooperativeLaunchTooLarge);
  config.gridDim = dim3(8);
  EXPECT_EQ(check_launch(nullptr, config), cudaSuccess);
  together.val.cooperative = 0, config.gridDim = dim3(9);
  EXPECT_EQ(check_launch(nullptr, config), cudaSuccess);
}

}  // namespace
}  // namespace cuda_on_cpu
