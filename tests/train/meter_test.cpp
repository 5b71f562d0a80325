// mfu and speed_of_light: of the CPU's cores, and of GPUs by their names.
#include "framework/train/meter.h"

#include <gtest/gtest.h>

#include <thread>

#include "parallel/groups.h"
#include "tests/late/late_device.h"

namespace fourmi {
namespace {

/// What ranks with GPUs of these names say that they could do together; each rank is told the same.
MachinePeak peak_of_ranks(const std::vector<std::string>& names) {
  const int n = static_cast<int>(names.size());
  auto groups = make_thread_groups("world", n);
  std::vector<MachinePeak> peaks(names.size());
  std::vector<std::thread> ranks;
  for (std::size_t r = 0; r < names.size(); ++r)
    ranks.emplace_back([&, r] {
      test::LateDevice device(1, {}, names[r]);
      const auto work = device.make_stream();
      ThreadPool pool(1);
      peaks[r] = peak_of(*groups[r], Stream(*work, pool));
    });
  for (std::thread& t : ranks) t.join();
  for (const MachinePeak& p : peaks) EXPECT_EQ(p.fp8, peaks[0].fp8);
  return peaks[0];
}

/// Of 100 + 20 operations a token the router has 2, linear maps and experts 80.
Meter meter(Compute compute, const MachinePeak& peak) {
  Recipe recipe;
  recipe.precision.compute = compute;
  ModelCounts counts;
  counts.flops_per_token = 100, counts.flops_per_token_mtp = 20, counts.flops_router = 2, counts.flops_scaled = 80;
  return Meter(recipe, counts, peak);
}

TEST(Meter, EachPartAtThePeakOfItsDtype) {
  const MachinePeak peak{.fp32 = 1e3, .bf16 = 16e3, .fp8 = 32e3};
  EXPECT_DOUBLE_EQ(meter(Compute::fp32, peak).mfu(5), 120 * 5 / 1e3);
  EXPECT_DOUBLE_EQ(meter(Compute::fp32, peak).speed_of_light(5), 120 * 5 / 1e3);
  EXPECT_DOUBLE_EQ(meter(Compute::bf16, peak).mfu(5), 120 * 5 / 16e3);
  EXPECT_DOUBLE_EQ(meter(Compute::bf16, peak).speed_of_light(5), (2 / 1e3 + 118 / 16e3) * 5);
  for (const Compute compute : {Compute::fp8_block, Compute::fp8_tensor, Compute::mxfp8}) {
    EXPECT_DOUBLE_EQ(meter(compute, peak).mfu(5), 120 * 5 / 32e3);
    EXPECT_DOUBLE_EQ(meter(compute, peak).speed_of_light(5), (2 / 1e3 + 38 / 16e3 + 80 / 32e3) * 5);
  }
}

TEST(Meter, GpusOfAllRanksAreAddedUp) {
  const MachinePeak one = peak_of_ranks({"NVIDIA H200"});
  EXPECT_EQ(one.bf16, 989.5e12);
  EXPECT_DOUBLE_EQ(meter(Compute::bf16, one).mfu(1e12), 120 / 989.5);
  const MachinePeak two = peak_of_ranks({"NVIDIA H200", "NVIDIA H100 PCIe"});
  EXPECT_DOUBLE_EQ(two.fp32, 118e12);
  EXPECT_DOUBLE_EQ(two.bf16, 1746e12);
  EXPECT_DOUBLE_EQ(two.fp8, 3492e12);
}

TEST(Meter, WhereOneGpuIsNotKnownNothingIsSaid) {
  const MachinePeak peak = peak_of_ranks({"NVIDIA H200", "some other card", "NVIDIA H200"});
  EXPECT_FALSE(peak.is_known());
  EXPECT_EQ(meter(Compute::bf16, peak).mfu(1e12), 0);
  EXPECT_EQ(meter(Compute::fp8_block, peak).speed_of_light(1e12), 0);
}

TEST(Meter, CoresAreMeasured) {
  ThreadPool pool(1);
  auto groups = make_thread_groups("world", 1);
  const MachinePeak peak = peak_of(*groups[0], Stream(pool));
  EXPECT_TRUE(peak.is_known());
  EXPECT_EQ(peak.fp8, peak.bf16);
}

}  // namespace
}  // namespace fourmi
