// What fourmi gpu-check measures, on the emulated card: no line of it runs for the first time on a GPU.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "kernels/runtime/cuda_card.h"
#include "kernels/runtime/cuda_devices.h"
#include "launch/gpu_check/exchange.h"
#include "launch/gpu_check/nccl.h"
#include "launch/gpu_check/speeds.h"
#include "launch/gpu_check/table.h"

namespace fourmi::gpu_check {
namespace {

class OnACard : public ::testing::Test {
 protected:
  std::unique_ptr<DeviceRuntime> device_ = open_cuda_device(0);
  std::unique_ptr<DeviceStream> card_ = device_->make_stream();
  ThreadPool pool_{1};
  Stream stream_{*card_, pool_};
  const TimingBudget once_{0, 0};
  const CeilingSizes small_{.copy_bytes = 1 << 16, .matrix = 32, .budget = once_};
  std::vector<ordered_json> told_;
  const Tell tell_ = [this](const ordered_json& figure) { told_.push_back(figure); };
};
using GpuCheckOnACard = OnACard;

TEST_F(GpuCheckOnACard, FactsAndCeilings) {
  std::map<std::string, std::string> facts;
  for (const auto& [name, value] : cuda_card_facts(0)) facts[name] = value;
  EXPECT_EQ(facts.at("compute capability"), "9.0");
  EXPECT_EQ(cuda_build(), "13.0 (emulated on the CPU)");
  EXPECT_EQ(facts.at("GPU"), device_->name());
  EXPECT_EQ(facts.at("CUDA of the driver"), "13.0");
  EXPECT_FALSE(facts.at("memory").empty());
  tell_ceilings(stream_, small_, {}, tell_);
  ASSERT_EQ(told_.size(), 3u);
  EXPECT_GT(told_[1]["bytes_per_second"], 0);
  EXPECT_GT(told_[2]["flops_per_second"], 0);
  EXPECT_EQ(told_[2]["by"], "fourmi's linear_forward");
}

TEST_F(GpuCheckOnACard, EveryKernelHasItsFigures) {
  bool library = true;
  int asked = 0;
  const UseLibraries use = [&](bool on) { return ++asked, library = on, true; };
  tell_kernels(
      stream_,
      {.cases = bench::CaseSizes::tiny(), .ceilings = small_, .budget = once_, .from = 0, .use_libraries = use}, tell_);
  std::map<std::string, int> names;
  std::int64_t begun = 0;
  for (const ordered_json& figure : told_) {
    if (figure.contains("begin")) {
      ++begun;
      continue;
    }
    EXPECT_FALSE(figure.contains("error")) << figure;
    ++names[figure["name"]];
    EXPECT_GT(figure["seconds"], 0) << figure;
    const bool product = figure.contains("flops");
    EXPECT_GT(figure[product ? "share_of_matrix" : "share_of_copy"], 0) << figure;
    EXPECT_GT(figure[product ? "flops" : "floor_bytes"], 0) << figure;
    EXPECT_EQ(figure.contains("times_library"), product) << figure;
  }
  EXPECT_FALSE(library) << "ours were timed last";
  EXPECT_GT(asked, 0);
  EXPECT_EQ(begun, static_cast<std::int64_t>(told_.size()) - begun + 1) << "one for the operands, then one a figure";
  for (const char* name :
       {"linear_forward", "grouped_linear_backward_weight", "fp8 forward", "fp8 backward_weight", "attention_backward",
        "rms_norm_forward", "swiglu_backward", "combine_backward", "cross_entropy", "adamw_step", "sum_squares"})
    EXPECT_GT(names[name], 0) << name;

  // From the last one on, as after a hang.
  const auto last = static_cast<std::int64_t>(told_.size()) / 2 - 1;
  const std::size_t all = told_.size();
  tell_kernels(stream_, {.cases = bench::CaseSizes::tiny(), .ceilings = small_, .budget = once_, .from = last}, tell_);
  ASSERT_EQ(told_.size(), all + 3);
  EXPECT_EQ(told_.back()["name"], told_[all - 1]["name"]);
}

TEST_F(GpuCheckOnACard, RanksExchangeRowsBesideAProduct) {
  ExchangeSizes sizes;
  sizes.ranks = {2, 4}, sizes.tokens = 6, sizes.columns = 128, sizes.num_experts = 8, sizes.num_choices = 2;
  sizes.matrix = 32, sizes.num_slots = 4, sizes.multiprocessors = 2, sizes.rounds = 2, sizes.calls = 2;
  sizes.ceilings = small_;
  tell_exchange(*device_, sizes, 0, {}, tell_);
  int timed = 0, beside = 0, at_once = 0;
  for (const ordered_json& figure : told_) {
    EXPECT_FALSE(figure.contains("error")) << figure;
    if (figure.contains("begin")) continue;
    EXPECT_GT(figure["seconds"], 0) << figure;
    at_once += figure.value("at_once", false);
    timed += figure.contains("share_of_copy"), beside += figure.contains("over_the_longer");
  }
  EXPECT_EQ(at_once, 2);
  EXPECT_EQ(timed, 4);
  EXPECT_EQ(beside, 2);
  // From the second one on, as after a hang.
  told_.clear();
  tell_exchange(*device_, sizes, 1, {}, tell_);
  EXPECT_EQ(told_.size(), 6u);
}

/// Its steps, on the card's memory; between threads that memory moves without NCCL.
TEST_F(GpuCheckOnACard, StepsOfNcclBetweenThreads) {
  auto groups = make_thread_groups("ranks", 2);
  std::vector<std::thread> threads;
  for (auto& made : groups)
    threads.emplace_back([&, group = made.get()] {
      const std::unique_ptr<DeviceStream> stream = device_->make_stream();
      tell_nccl(*group, *stream, {.large = 1 << 20, .seconds = 0}, tell_);
    });
  for (std::thread& t : threads) t.join();
  std::string lines;
  for (const ordered_json& figure : told_) lines += figure.dump() + "\n";
  const Outcome o = judge_nccl({.how = ChildEnd::How::exited, .output = lines, .errors = {}}, 2, true);
  EXPECT_EQ(o.verdict, Verdict::passed) << o.text;
}

/// With mpirun, two processes and a library that forms no communicator.
TEST(GpuCheckWhole, RanksWithoutAUsableNcclAreToldApart) {
  const auto check = [](const char* kind, double silence) {
    ::setenv("FAKE_NCCL", kind, 1);
    const double now = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    return check_nccl(Job(now + 60), find_places(FOURMI_EMULATED), silence);
  };
  std::string broken = (std::filesystem::temp_directory_path() / "fourmi-nccl-XXXXXX").string();
  ASSERT_NE(::mkdtemp(broken.data()), nullptr);
  std::ofstream(broken + "/libnccl.so.2") << "no library";
  ::setenv("LD_LIBRARY_PATH", broken.c_str(), 1);
  const Outcome absent = check("", 30);
  std::filesystem::remove_all(broken);
  EXPECT_EQ(absent.verdict, Verdict::absent) << absent.text << absent.figures;
  EXPECT_NE(absent.text.find("libnccl.so.2"), std::string::npos) << absent.text;
  ::setenv("LD_LIBRARY_PATH", FAKE_NCCL_FOLDER, 1);
  const Outcome old = check("old", 30);
  EXPECT_EQ(old.verdict, Verdict::absent) << old.text << old.figures;
  EXPECT_NE(old.text.find("NCCL 2.28.3"), std::string::npos) << old.text;
  const Outcome refuses = check("refuses", 30);
  EXPECT_EQ(refuses.verdict, Verdict::absent) << refuses.text << refuses.figures;
  EXPECT_NE(refuses.text.find("allowed: 1"), std::string::npos) << refuses.text;
  const Outcome fails = check("fails", 30);
  EXPECT_EQ(fails.verdict, Verdict::failed) << fails.text << fails.figures;
  EXPECT_NE(fails.text.find("communicators"), std::string::npos) << fails.text;

  // Ranks are in process groups of their own: what kills mpirun has to reach them.
  const Outcome hangs = check("hangs", 4);
  EXPECT_EQ(hangs.verdict, Verdict::hung) << hangs.text << hangs.figures;
  EXPECT_NE(hangs.text.find("communicators"), std::string::npos) << hangs.text;
  const auto ranks = [] {
    return run_child({"/bin/sh", "-c",
                      "grep -lz '^FAKE_NCCL=hangs' /proc/[0-9]*/environ | while read f; do "
                      "tr '\\0' ' ' <${f%environ}cmdline; done | grep -c -- '--part [n]ccl'"},
                     {.seconds = 20})
        .output;
  };
  std::string left = ranks();
  for (int i = 0; i < 100 && left != "0\n"; ++i, left = ranks())
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(left, "0\n") << "ranks that were left running";
  ::unsetenv("LD_LIBRARY_PATH");
  ::unsetenv("FAKE_NCCL");
}

/// From the command line to the table and the file, with the processes that a GPU would have.
TEST(GpuCheckWhole, PrintsATableAndWritesItsFigures) {
  namespace fs = std::filesystem;
  std::string folder = (fs::temp_directory_path() / "fourmi-whole-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string file = folder + "/figures.json";
  const ChildEnd end =
      run_child({FOURMI_EMULATED, "gpu-check", "--only", "facts,layouts", "--json", file}, {.seconds = 60});
  EXPECT_TRUE(end.well()) << describe(end) << last_words(end);
  EXPECT_NE(end.output.find("facts      passed"), std::string::npos) << end.output;
  EXPECT_NE(end.output.find("layouts    not there"), std::string::npos) << end.output;
  std::ifstream in(file);
  const ordered_json j = ordered_json::parse(in);
  for (const char* key : {"fourmi", "commit", "host", "minutes", "all_fine", "parts"})
    EXPECT_TRUE(j.contains(key)) << key;
  EXPECT_EQ(j["all_fine"], true);
  ASSERT_EQ(j["parts"].size(), 2u);
  EXPECT_EQ(j["parts"][0]["figures"]["figures"][0]["value"], "a card emulated on the CPU");
  EXPECT_EQ(run_child({FOURMI_EMULATED, "gpu-check", "--only", "facts,frob"}, {.seconds = 60}).status, 2);
  const ChildEnd unwritable =
      run_child({FOURMI_EMULATED, "gpu-check", "--only", "facts", "--json", folder + "/no/such"}, {.seconds = 60});
  EXPECT_EQ(unwritable.status, 3) << last_words(unwritable);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace fourmi::gpu_check
