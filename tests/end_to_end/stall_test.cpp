// What saving costs a run: at least 1 GB of state, a save every 10 steps of at least 5 seconds, on an otherwise idle
// machine.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

class Stall : public Scene, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Long, Stall, ::testing::Values(40));

struct Times {
  std::vector<double> step, between;
};

Times times_of(const std::filesystem::path& run) {
  Times t;
  std::ifstream in(run / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) {
    const auto j = nlohmann::json::parse(line);
    t.step.push_back(j.at("step_seconds"));
    t.between.push_back(j.at("stall_seconds"));
  }
  return t;
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

/// Bytes a second of plain writes with fsync, and of reads that do not come from memory.
std::pair<double, double> raw_speed(const std::filesystem::path& file, std::size_t bytes) {
  std::vector<char> block(std::size_t{4} << 20, 'x');
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto since = [&](auto begin) { return std::chrono::duration<double>(now() - begin).count(); };
  int f = ::open(file.c_str(), O_CREAT | O_RDWR, 0644);
  auto begin = now();
  for (std::size_t done = 0; done < bytes; done += block.size())
    if (::write(f, block.data(), block.size()) < 0) return {};
  ::fsync(f);
  const double write = static_cast<double>(bytes) / since(begin);
  ::posix_fadvise(f, 0, 0, POSIX_FADV_DONTNEED);
  ::lseek(f, 0, SEEK_SET);
  begin = now();
  for (std::size_t done = 0; done < bytes; done += block.size())
    if (::read(f, block.data(), block.size()) < 0) return {};
  const double read = static_cast<double>(bytes) / since(begin);
  ::close(f);
  std::filesystem::remove(file);
  return {write, read};
}

TEST_P(Stall, StepsHardlyNoticeASave) {
  const int steps = GetParam() + 2;  // the last save, at the end, has no steps to hide behind
  const Words words = {"train", FOURMI_SOURCE_DIR "/tests/end_to_end/large.yaml",
                       "run.directory=" + run_directory("run").string(), "run.steps=" + std::to_string(steps),
                       "evaluation.at_end=false"};
  const Result result = run(fourmi(words), {}, Seconds(590));
  expect_ok(result);
  Times t = times_of(run_directory("run"));
  ASSERT_EQ(t.step.size(), static_cast<std::size_t>(steps));
  // The first step warms up; a step's `between` is what came before it.
  const std::vector<double> step(t.step.begin() + 1, t.step.end()), between(t.between.begin() + 1, t.between.end());
  const double usual = median(step), n = static_cast<double>(step.size());
  const double copies = std::accumulate(between.begin(), between.end(), 0.0);
  const double all = std::accumulate(step.begin(), step.end(), copies);
  const double stall = all / (n * usual) - 1, copy = copies / (n * usual);

  const std::filesystem::path newest = newest_checkpoint(run_directory("run"));
  const auto bytes = std::filesystem::file_size(newest / "rank-00000.h5");
  const auto begin = std::chrono::steady_clock::now();
  expect_ok(run(fourmi({"checkpoint", "verify", newest}), {}, Seconds(300)));
  const double proof = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const auto [raw_write, raw_read] = raw_speed(folder() / "raw", bytes);
  const Result again = run(fourmi([&] {
                             Words w = words;
                             w[3] = "run.steps=" + std::to_string(steps + 1);
                             return w;
                           }()),
                           {}, Seconds(300));
  expect_ok(again);
  std::string saves;
  for (std::ifstream log(run_directory("run") / "logs/rank-0.log"); std::getline(log, saves);)
    if (saves.find("checkpoint ") != std::string::npos) std::printf("%s\n", saves.c_str());
  std::printf("state %.2f GB; median step %.2f s; stall %.2f%% of which copies %.2f%%\n",
              static_cast<double>(bytes) / 1e9, usual, 100 * stall, 100 * copy);
  std::printf("verify %.2f GB/s; the disk alone writes %.2f GB/s and reads %.2f GB/s\n",
              static_cast<double>(bytes) / 1e9 / proof, raw_write / 1e9, raw_read / 1e9);
  EXPECT_GE(bytes, 1000u * 1000 * 1000);
  EXPECT_GE(usual, 5.0) << "steps too short for this machine: raise data.global_batch_size in large.yaml";
  EXPECT_LE(stall, 0.03);
  EXPECT_LE(copy, 0.01);
}

}  // namespace
}  // namespace fourmi::testing
