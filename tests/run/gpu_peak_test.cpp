#include "framework/run/gpu_peak.h"

#include <gtest/gtest.h>

namespace fourmi {
namespace {

TEST(GpuPeak, ByTheNameThatTheDriverGives) {
  const MachinePeak h200 = gpu_peak("NVIDIA H200").value();
  EXPECT_EQ(h200.fp32, 67e12);
  EXPECT_EQ(h200.bf16, 989.5e12);
  EXPECT_EQ(h200.fp8, 1979e12);
  EXPECT_EQ(gpu_peak("NVIDIA H100 80GB HBM3")->fp8, 1979e12);
  EXPECT_EQ(gpu_peak("NVIDIA GH200 480GB")->bf16, 989.5e12);
  EXPECT_EQ(gpu_peak("NVIDIA H100 PCIe")->bf16, 756.5e12);
  EXPECT_EQ(gpu_peak("NVIDIA H200 NVL")->fp8, 1670.5e12);
}

TEST(GpuPeak, FormsOfTheChipHaveTwiceInEightBits) {
  for (const char* name :
       {"NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA H200", "NVIDIA H200 NVL", "NVIDIA H800",
        "NVIDIA H800 PCIe", "NVIDIA GH200 120GB", "NVIDIA GH200 480GB", "NVIDIA GH200 144G HBM3e"}) {
    const MachinePeak p = gpu_peak(name).value();
    EXPECT_TRUE(p.is_known()) << name;
    EXPECT_NEAR(p.fp8 / p.bf16, 2, 1e-3) << name;
    EXPECT_NEAR(p.bf16 / p.fp32, 14.5, 0.7) << name;  // of one chip, whatever its clock
  }
}

TEST(GpuPeak, NothingIsGuessed) {
  for (const char* name :
       {"", "NVIDIA", "NVIDIA H100", "NVIDIA H200 ", "nvidia h200", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA H20",
        "NVIDIA A100-SXM4-80GB", "NVIDIA B200", "a card emulated on the CPU"})
    EXPECT_FALSE(gpu_peak(name)) << name;
}

}  // namespace
}  // namespace fourmi
