// The part `nccl`: what it does with ranks that end, hang, refuse or say too little; and its steps between threads,
// with NCCL's functions on a late device.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "kernels/runtime/error.h"
#include "launch/gpu_check/nccl.h"
#include "launch/gpu_check/table.h"
#include "tests/late/fake_nccl.h"
#include "tests/late/group_of_processes.h"
#include "tests/late/late_device.h"

namespace fourmi::gpu_check {
namespace {

namespace fs = std::filesystem;
using How = ChildEnd::How;

/// A line for each step, the timed ones with a speed.
std::string all_steps() {
  std::string lines = "{\"name\": \"NCCL\", \"version\": \"2.30.7\"}\n";
  for (const std::string& step : nccl_steps()) {
    lines += ordered_json{{"begin", step}, {"number", 0}}.dump() + "\n";
    ordered_json figure{{"name", step}};
    if (step.starts_with("large")) figure["bytes_per_second"] = 12.5e9;
    lines += figure.dump() + "\n";
  }
  return lines;
}

Outcome judged(const std::string& output, const std::string& errors = "", int status = 0, bool shared = true,
               How how = How::exited) {
  return judge_nccl({.how = how, .status = status, .seconds = 3, .output = output, .errors = errors}, 2, shared);
}

TEST(GpuCheckNccl, PassesWhereEveryStepWasToldAndEndedWell) {
  const Outcome o = judged(all_steps());
  EXPECT_EQ(o.verdict, Verdict::passed);
  EXPECT_EQ(o.text, "2 ranks on one GPU: large all_gather 12.5 GB/s, large all_to_all 12.5 GB/s");
  for (const std::string& step : nccl_steps()) {
    std::string lines = all_steps();
    const std::string line = "{\"name\":\"" + step + "\"";
    lines.replace(lines.find(line), line.size(), "{\"name\":\"another\"");
    EXPECT_EQ(judged(lines).verdict, Verdict::failed) << step;
    EXPECT_NE(judged(lines).text.find(step), std::string::npos);
  }
  EXPECT_EQ(judged("").verdict, Verdict::failed);
  EXPECT_EQ(judged(all_steps() + "rubbish\n").verdict, Verdict::failed);
  EXPECT_EQ(judged(all_steps(), "", 1).verdict, Verdict::failed);
  EXPECT_EQ(judged(all_steps(), "", 11, true, How::signalled).verdict, Verdict::failed);
  const Outcome wrong = judged(all_steps() + "{\"name\":\"broadcast\",\"error\":\"7 bytes are wrong\"}\n");
  EXPECT_EQ(wrong.verdict, Verdict::failed);
  EXPECT_NE(wrong.text.find("broadcast: 7 bytes are wrong"), std::string::npos) << wrong.text;
}

TEST(GpuCheckNccl, WhatHangsIsNamed) {
  const std::string begun = "{\"begin\":\"neighbours\",\"number\":6}\n";
  const Outcome hung = judged(begun, "", 0, true, How::hung);
  EXPECT_EQ(hung.verdict, Verdict::hung);
  EXPECT_NE(hung.text.find("at neighbours"), std::string::npos) << hung.text;
  EXPECT_EQ(judged(begun, "", 0, true, How::stuck).verdict, Verdict::hung);
  EXPECT_EQ(judged(begun, "", 0, true, How::late).verdict, Verdict::no_time);
}

/// NCCL's message as of before 2.30 and since.
TEST(GpuCheckNccl, OnlyARefusalOfOneGpuBeforeAnythingMovedIsNotThere) {
  const std::string begun = "{\"begin\":\"communicators\",\"number\":0}\n";
  const std::string duplicate =
      "host:1:1 [0] init.cc:95 NCCL WARN Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 19000\nmore\n";
  const Outcome refused = judged(begun, duplicate, 7);
  EXPECT_EQ(refused.verdict, Verdict::absent);
  EXPECT_NE(refused.text.find("Duplicate GPU detected : rank 0 and rank 1"), std::string::npos) << refused.text;
  EXPECT_EQ(refused.text.find("more"), std::string::npos);
  EXPECT_EQ(judged(begun, "NCCL WARN Multiple Ranks are using the same GPU/Partition.", 1).verdict, Verdict::absent);
  EXPECT_EQ(judged(begun, "NCCL WARN no memory", 7).verdict, Verdict::failed);
  EXPECT_EQ(judged(begun, duplicate, 7, false).verdict, Verdict::failed) << "one rank a GPU";
  EXPECT_EQ(judged(all_steps(), duplicate, 7).verdict, Verdict::failed) << "it had taken them";
  EXPECT_EQ(judged(begun, duplicate, 11, true, How::signalled).verdict, Verdict::failed);
  EXPECT_EQ(judged("{\"absent\":\"no libnccl\"}\n").text, "2 ranks on one GPU: no libnccl");
  EXPECT_EQ(judged("{\"absent\":\"no libnccl\"}\n").verdict, Verdict::absent);
  EXPECT_EQ(judged("{\"absent\":\"no libnccl\"}\n", "", 1).verdict, Verdict::failed);
}

TEST(GpuCheckNccl, LibraryIsToldToShareOnlyWhereRanksDo) {
  const auto has = [](const std::vector<std::string>& words, const std::string& word) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  const auto one = nccl_words("mpirun", "fourmi", 2, true), several = nccl_words("mpirun", "fourmi", 8, false);
  for (const char* word : {"NCCL_MULTI_RANK_GPU_ENABLE=1", "NCCL_NVLS_ENABLE=0", "NCCL_MAX_CTAS=2"}) {
    EXPECT_TRUE(has(one, word)) << word;
    EXPECT_FALSE(has(several, word)) << word;
  }
  EXPECT_TRUE(has(several, "8"));
}

/// A folder with a program that counts so many GPUs, and an mpirun beside it, both of shell.
class Programs {
 public:
  Programs(int gpus, const std::string& mpirun) {
    std::string name = (fs::temp_directory_path() / "fourmi-nccl-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    write("program", "echo '{\"name\": \"probe\", \"count\": " + std::to_string(gpus) + "}'");
    std::ofstream(folder_ / "steps") << all_steps();
    write("mpirun", "echo \"$@\" >>" + (folder_ / "asked").string() + "; steps=" + (folder_ / "steps").string() +
                        "; case \"$*\" in *'-n 2 '*) ranks=2 ;; *) ranks=more ;; esac\n" + mpirun);
  }
  ~Programs() { fs::remove_all(folder_); }
  Programs(const Programs&) = delete;
  Programs& operator=(const Programs&) = delete;
  Outcome check(double silence = 20) const {
    const double now = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    return check_nccl(Job(now + 60), {.program = folder_ / "program", .beside = folder_, .recipes = {}, .text = {}},
                      silence);
  }
  /// The numbers of ranks that were asked for.
  std::string asked() const {
    std::ifstream in(folder_ / "asked");
    std::string numbers, word;
    for (bool number = false; in >> word; number = word == "-n")
      if (number) numbers += word + " ";
    return numbers;
  }

 private:
  void write(const char* name, const std::string& text) const {
    std::ofstream(folder_ / name) << "#!/bin/sh\n" << text << "\n";
    fs::permissions(folder_ / name, fs::perms::owner_all);
  }
  fs::path folder_;
};

TEST(GpuCheckNccl, StartsRanksByTheMpirunBesideIt) {
  const Programs one(1, "cat $steps");
  const Outcome both = one.check();
  EXPECT_EQ(both.verdict, Verdict::passed) << both.text;
  EXPECT_EQ(one.asked(), "2 4 ");
  EXPECT_EQ(both.figures["runs"].size(), 2u);
  EXPECT_NE(both.text.find("; 4 ranks on one GPU: "), std::string::npos) << both.text;
  for (const auto& [gpus, numbers] : {std::pair{2, "2 "}, {3, "2 3 "}, {4, "2 4 "}, {8, "2 8 "}}) {
    const Programs several(gpus, "cat $steps");
    EXPECT_EQ(several.check().verdict, Verdict::passed);
    EXPECT_EQ(several.asked(), numbers);
  }
}

TEST(GpuCheckNccl, TheFirstThatDoesNotPassIsTheLast) {
  const Programs none(1, "echo '{\"absent\": \"no library\"}'");
  EXPECT_EQ(none.check().verdict, Verdict::absent);
  EXPECT_EQ(none.asked(), "2 ");
  const Programs fails(1, "cat $steps; exit 1");
  EXPECT_EQ(fails.check().verdict, Verdict::failed);
  EXPECT_EQ(fails.asked(), "2 ");
  const Programs hangs(1, "echo '{\"begin\": \"all_gather\", \"number\": 1}'; exec sleep 300");
  const Outcome hung = hangs.check(1);
  EXPECT_EQ(hung.verdict, Verdict::hung);
  EXPECT_NE(hung.text.find("at all_gather"), std::string::npos) << hung.text;
  // Two pass; more do not.
  const Programs refused(1, "[ $ranks = 2 ] && cat $steps || echo '{\"absent\": \"too many\"}'");
  EXPECT_EQ(refused.check().verdict, Verdict::passed);
  const Programs more(1, "[ $ranks = 2 ] && cat $steps || exit 1");
  EXPECT_EQ(more.check().verdict, Verdict::failed);
}

/// The steps between threads whose device memory moves by these functions; what rank 0 told.
std::vector<ordered_json> told_by(const nccl::Functions& table, int size) {
  test::LateDevice device(3);
  auto groups = make_thread_groups("ranks", size);
  const auto functions = std::make_shared<nccl::Functions>(table);
  std::vector<std::thread> threads;
  std::vector<ordered_json> told;
  std::mutex mutex;
  const int hangs = test::fake_nccl_hangs();
  for (auto& made : groups) {
    made = std::make_unique<test::NcclGroup>(std::move(made), functions);
    threads.emplace_back([&, group = made.get(), mine = &made] {
      test::LateStream stream(device, static_cast<unsigned>(group->rank()) + 11);
      try {
        tell_nccl(*group, stream, {.large = 1'000'003, .seconds = 0}, [&](const ordered_json& figure) {
          const std::scoped_lock lock(mutex);
          told.push_back(figure);
        });
        group->barrier();
        mine->reset();  // as processes do: each its own, which all wait for
      } catch (const std::exception& e) {
        ADD_FAILURE() << "rank " << group->rank() << ": " << e.what();
        group->cancel("a member of the test failed");
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(test::fake_nccl_hangs(), hangs);
  return told;
}

TEST(GpuCheckNccl, StepsPassBetweenThreads) {
  for (const int size : {2, 3, 4}) {
    std::string lines;
    for (const ordered_json& figure : told_by(test::fake_nccl(), size)) lines += figure.dump() + "\n";
    const Outcome o = judged(lines);
    EXPECT_EQ(o.verdict, Verdict::passed) << size << ": " << o.text;
  }
}

/// A library that loses what it was given, whichever step gives it: of messages longer than a byte, the fake copies
/// none where the receiver expects one more.
TEST(GpuCheckNccl, EveryStepSeesBytesThatNeverCame) {
  static const nccl::Functions good = test::fake_nccl();
  nccl::Functions bad = good;
  bad.recv = [](void* data, std::size_t count, nccl::DataType type, int peer, nccl::Communicator* comm, void* stream) {
    return good.recv(data, count + 1, type, peer, comm, stream);
  };
  std::vector<std::string> wrong;
  for (const ordered_json& figure : told_by(bad, 2))
    if (figure.contains("error")) wrong.push_back(figure["name"]);
  EXPECT_EQ(wrong, std::vector<std::string>(nccl_steps().begin() + 1, nccl_steps().end()));
}

/// Where a message between two ranks is another's: values tell them apart.
TEST(GpuCheckNccl, EveryStepSeesBytesOfAnotherRank) {
  static const nccl::Functions good = test::fake_nccl();
  nccl::Functions bad = good;
  static constexpr std::size_t shift = 1;  // the sender's memory has a byte behind its end
  bad.send = [](const void* data, std::size_t count, nccl::DataType type, int peer, nccl::Communicator* comm,
                void* stream) {
    return good.send(static_cast<const std::byte*>(data) + shift, count, type, peer, comm, stream);
  };
  std::vector<std::string> wrong;
  for (const ordered_json& figure : told_by(bad, 2))
    if (figure.contains("error")) wrong.push_back(figure["name"]);
  EXPECT_EQ(wrong, std::vector<std::string>(nccl_steps().begin() + 1, nccl_steps().end()));
}

}  // namespace
}  // namespace fourmi::gpu_check
