// What run.device comes to, by how many GPUs each host has: on all ranks alike. The GPUs are this test's own; no rank
// opens one.
#include "launch/run_device.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "kernels/runtime/error.h"

namespace fourmi {

namespace {
std::atomic<int> gpus_here{0};
}

std::string cuda_build() {
  return "none";
}
void load_kernels_at_once() {}
CudaDevices find_cuda_devices() {
  return {gpus_here, gpus_here == 0 ? "no driver" : ""};
}
std::unique_ptr<DeviceRuntime> open_cuda_device(int index) {
  throw Error(ExitStatus::environment, "test", fmt::format("GPU {} was opened", index));
}

namespace {

/// What each of two ranks of one host was told; empty: it computes on the CPU.
std::vector<std::string> told(DeviceChoice choice, int gpus, Reproducibility mode = Reproducibility::run) {
  gpus_here = gpus;
  Recipe recipe;
  recipe.run.device = choice, recipe.run.reproducibility = mode;
  auto groups = make_thread_groups("world", 2);
  std::vector<std::string> words(2);
  std::vector<std::thread> ranks;
  for (int r = 0; r < 2; ++r)
    ranks.emplace_back([&, r] {
      const auto i = static_cast<std::size_t>(r);
      try {
        const RunDevice device(recipe, {.rank = r, .size = 2, .local_rank = r, .local_size = 2}, *groups[i]);
        EXPECT_TRUE(device.is_cpu());
        EXPECT_EQ(device.name(), "cpu");
      } catch (const Error& e) {
        words[i] = fmt::format("{} {}", static_cast<int>(e.status()), e.what());
      }
    });
  for (std::thread& t : ranks) t.join();
  return words;
}

void expect_all(const std::vector<std::string>& words, const std::string& beginning, const std::string& part) {
  for (const std::string& w : words) {
    EXPECT_EQ(w.substr(0, beginning.size()), beginning) << w;
    EXPECT_NE(w.find(part), std::string::npos) << w;
  }
}

TEST(RunDevice, WithoutGpusAutoIsTheCpu) {
  expect_all(told(DeviceChoice::automatic, 0), "", "");
  EXPECT_EQ(told(DeviceChoice::automatic, 0)[0], "");
}

TEST(RunDevice, CpuLooksForNone) {
  EXPECT_EQ(told(DeviceChoice::cpu, 2), (std::vector<std::string>{"", ""}));
}

TEST(RunDevice, CudaWithoutGpusEndsAllRanksAndSaysWhyAndWhatToDo) {
  expect_all(told(DeviceChoice::cuda, 0), "3 ", "no driver");
  expect_all(told(DeviceChoice::cuda, 0), "3 ", "run.device: cpu");
}

TEST(RunDevice, OneGpuForTwoRanksNamesTheOneWithout) {
  for (const DeviceChoice choice : {DeviceChoice::automatic, DeviceChoice::cuda}) {
    expect_all(told(choice, 1), "3 ", "no GPU for rank 1 (number 1 of this host)");
    expect_all(told(choice, 1), "3 ", "there are 1 for 2 ranks here");
  }
}

TEST(RunDevice, ModeLayoutIsTheCpus) {
  expect_all(told(DeviceChoice::automatic, 2, Reproducibility::layout), "2 ", "run.reproducibility");
}

TEST(RunDevice, AGpuForEachRankIsTaken) {
  expect_all(told(DeviceChoice::automatic, 2), "3 ", "was opened");
}

}  // namespace
}  // namespace fourmi
