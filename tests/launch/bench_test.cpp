// fourmi bench: what it prints fits together, and is of the program's own steps.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Result {
  int status = -1;
  std::string output;
};

Result shell(const std::string& command) {
  Result result;
  FILE* pipe = ::popen(command.c_str(), "r");
  std::array<char, 4096> buffer;
  while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe))
    result.output.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
  return result;
}
Result bench(const std::string& words) {
  return shell(std::string(FOURMI_PROGRAM) + " bench " + words + " 2>&1");
}
json bench_json(const std::string& words) {
  const Result r = shell(std::string(FOURMI_PROGRAM) + " bench " + words + " --json");
  EXPECT_EQ(r.status, 0) << words;
  return json::parse(r.output);
}

const std::string small = FOURMI_SOURCE_DIR "/tests/end_to_end/small.yaml";

TEST(Bench, KernelsStandBesideTheirLimit) {
  const json j = bench_json("kernels --only swiglu --seconds 0.01 --threads 1");
  ASSERT_EQ(j["kernels"].size(), 2u);
  EXPECT_GT(j["limit_flops_bf16"], 1e9);
  EXPECT_GE(j["limit_flops_bf16"].get<double>() * 1.01, j["limit_flops_fp32"].get<double>());
  for (const json& k : j["kernels"]) {
    EXPECT_GE(k["repeats"], 5);
    EXPECT_LE(k["low_seconds"], k["median_seconds"]);
    EXPECT_LE(k["median_seconds"], k["high_seconds"]);
    EXPECT_NEAR(k["share_of_limit"], k["bytes_per_second"].get<double>() / j["limit_bytes"].get<double>(), 1e-9);
  }
  const Result text = bench("kernels --only linear_forward --seconds 0.01 --threads 1");
  EXPECT_EQ(text.status, 0);
  EXPECT_NE(text.output.find("GFLOP/s"), std::string::npos) << text.output;
}

TEST(Bench, AStepIsTheTrainersStep) {
  const fs::path directory = fs::temp_directory_path() / ("fourmi-bench-" + std::to_string(::getpid()));
  const json j = bench_json("step " + small + " --warm-up 1 --steps 2");
  EXPECT_EQ(j["tokens_per_step"], 256);
  ASSERT_EQ(j["step_seconds"].size(), 2u);
  // The split adds up to the steps, and the share of the limit follows from what is printed beside it.
  double split = 0;
  for (const auto& [name, seconds] : j["seconds_by_work"].items()) split += seconds.get<double>();
  const double mean = (j["step_seconds"][0].get<double>() + j["step_seconds"][1].get<double>()) / 2;
  EXPECT_NEAR(split, mean, 0.02 * mean);
  EXPECT_NEAR(
      j["speed_of_light"],
      j["flops_per_step"].get<double>() / j["limit_flops_fp32"].get<double>() / j["median_seconds"].get<double>(),
      1e-9);
  ASSERT_EQ(shell(std::string(FOURMI_PROGRAM) + " train " + small + " run.steps=3 run.directory=" + directory.string() +
                  " 2>&1")
                .status,
            0);
  std::ifstream metrics(directory / "metrics.jsonl");
  std::string line;
  std::getline(metrics, line);  // the step that warmed up
  for (std::size_t step = 0; step < 2; ++step) {
    ASSERT_TRUE(std::getline(metrics, line));
    EXPECT_EQ(json::parse(line)["loss"], j["losses"][step]);
  }
  fs::remove_all(directory);
}

TEST(Bench, TellsThePriceOfModeLayout) {
  EXPECT_FALSE(bench_json("step " + small + " --warm-up 1 --steps 1").contains("price_of_layout"));
  const json j = bench_json("step " + small + " --warm-up 1 --steps 1 run.reproducibility=layout");
  EXPECT_GT(j["price_of_layout"]["time"], 0);
  EXPECT_GT(j["price_of_layout"]["memory"], 1);
}

TEST(Bench, RanksExchangeBesideACopy) {
  const Result r = shell(std::string(FOURMI_SOURCE_DIR "/launch/mpirun -n 2 ") + FOURMI_PROGRAM +
                         " bench comm --seconds 0.01 --json");
  ASSERT_EQ(r.status, 0) << r.output;
  const json j = json::parse(r.output);
  EXPECT_EQ(j["ranks"], 2);
  int with_data = 0;
  for (const json& o : j["operations"]) {
    EXPECT_GT(o["median_seconds"], 0) << o;
    with_data += o["bytes_per_second"] > 0;
  }
  EXPECT_EQ(with_data, 9);
}

TEST(Bench, WrongUsage) {
  for (const char* words : {"", "frob", "kernels --frob", "kernels --only nothing-like-this", "kernels --threads 0",
                            "step", "comm --seconds many"})
    EXPECT_EQ(bench(words).status, 2) << words;
  EXPECT_NE(bench("kernels --only nothing-like-this").output.find("swiglu_forward"), std::string::npos);
  EXPECT_EQ(bench("step " + small + " --frob 1").status, 2);
  EXPECT_EQ(bench("step " + small + " model.hidden_size=-1").status, 2);
  const Result two = shell("OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 " + std::string(FOURMI_PROGRAM) +
                           " bench step " + small + " 2>&1");
  EXPECT_EQ(two.status, 2) << two.output;
}

}  // namespace
