// A student beside its teacher as a user runs it: processes under MPI, each model in a layout of its own.
#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

using Distill = Scene;

const Words exact{"run.reproducibility=layout",  "precision.compute=bf16",     "model.num_attention_heads=4",
                  "model.num_key_value_heads=4", "model.intermediate_size=64", "model.moe_intermediate_size=64"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST_F(Distill, OnlineInTwoLayoutsIsThatOfOneRankOverAKill) {
  expect_ok(
      run(train("teacher", 0, with(exact, {"run.steps=3", "model.hidden_size=64", "model.num_hidden_layers=4"}))));
  const Words online = with(exact, {"run.steps=8", "checkpoint.every=2", "distill.mode=online", "distill.temperature=2",
                                    "distill.teacher.from=" + run_directory("teacher").string(),
                                    "distill.teacher.name=small", "distill.teacher.license=CC0-1.0"});
  const Words cut = with(online, {"parallel.pipeline=2", "distill.teacher.parallel.tensor=2"});
  expect_ok(run(train("whole", 0, online)));
  kill_in({"wait", 3, "backward", 5}, "cut", 4, cut);
  EXPECT_GE(saved_step("cut"), 2);
  expect_ok(run(train("cut", 4, cut)));
  expect_each_step_once(run_directory("cut"), 8);
  expect_same_run(run_directory("cut"), run_directory("whole"));

  std::ifstream lines(run_directory("cut") / "metrics.jsonl");
  std::string line;
  while (std::getline(lines, line)) {
    const nlohmann::json step = nlohmann::json::parse(line);
    EXPECT_GT(step.at("loss_distill").get<double>(), 0);
    EXPECT_GT(step.at("loss").get<double>(), 1);
  }
  // The ledger knows whom it learned from, the dry run what that takes.
  const Result ledger = run(fourmi({"ledger", "show", run_directory("cut")}));
  expect_ok(ledger);
  const std::string root = root_of(newest_checkpoint(run_directory("teacher")));
  EXPECT_NE(ledger.output.find("(small) by forward-kl, licence CC0-1.0, root " + root.substr(0, 8)), std::string::npos)
      << ledger.output;
  expect_ok(run(fourmi({"ledger", "verify", run_directory("cut")})));
  const Result dry = run(train("dry", 0, with(cut, {"--dry-run", "--json", "--ranks=4"})));
  expect_ok(dry);
  EXPECT_GT(nlohmann::json::parse(dry.output).at("memory_bytes_per_rank").at("teacher").get<double>(), 0);
}

/// Capture under mpirun over a request to stop and a kill, then students in two layouts over a kill.
TEST_F(Distill, OfflineIsTheSameInAnyLayoutOverKills) {
  expect_ok(
      run(train("teacher", 0, with(exact, {"run.steps=3", "model.hidden_size=64", "model.num_hidden_layers=4"}))));
  const std::string cache = (run_directory("teacher").parent_path() / "cache").string();
  const Words offline =
      with(exact, {"run.steps=8", "checkpoint.every=2", "distill.mode=offline", "distill.top_k=16",
                   "distill.cache=" + cache, "distill.teacher.name=small",
                   "distill.teacher.from=" + run_directory("teacher").string(), "distill.teacher.license=CC0-1.0"});
  const auto capture = [&](int ranks, const Words& more) {
    Words words = train("capture", ranks, with(offline, more));
    const auto command = std::find(words.begin(), words.end(), "train");
    *command = "teacher";
    words.insert(command + 1, "capture");
    return words;
  };
  // Nothing to learn from yet.
  const Result early = run(train("whole", 0, offline));
  EXPECT_EQ(early.status, 4);
  EXPECT_NE(early.errors.find("fourmi teacher capture"), std::string::npos) << early.errors;
  for (int tries = 0; tries < 3; ++tries) {
    Process job(capture(2, {"distill.teacher.parallel.tensor=2"}));
    std::this_thread::sleep_for(std::chrono::milliseconds(150 * tries));
    job.kill_all();
    job.wait();
  }
  const Result made = run(capture(2, {"distill.teacher.parallel.tensor=2", "--json"}));
  expect_ok(made);
  const nlohmann::json summary = nlohmann::json::parse(made.output);
  EXPECT_EQ(summary.at("rows"), 8 * 8 * 32);
  EXPECT_EQ(summary.at("complete"), true);
  const Result again = run(capture(0, {"--json"}));
  expect_ok(again);
  EXPECT_EQ(nlohmann::json::parse(again.output).at("rows_now"), 0);
  EXPECT_EQ(nlohmann::json::parse(again.output).at("root"), summary.at("root"));

  expect_ok(run(train("whole", 0, offline)));
  const Words cut = with(offline, {"parallel.pipeline=2", "parallel.tensor=2"});
  kill_in({"wait", 3, "backward", 5}, "cut", 4, cut);
  expect_ok(run(train("cut", 4, cut)));
  expect_each_step_once(run_directory("cut"), 8);
  expect_same_run(run_directory("cut"), run_directory("whole"));
  const Result ledger = run(fourmi({"ledger", "show", run_directory("cut")}));
  expect_ok(ledger);
  EXPECT_NE(ledger.output.find(fmt::format("learns from the cache {}: 2048 positions, top-k (16 tokens each), root {}",
                                           cache, summary.at("root").get<std::string>().substr(0, 12))),
            std::string::npos)
      << ledger.output;

  expect_ok(run(fourmi({"ledger", "verify", run_directory("cut"), "--data"})));
  const auto refused = [&](const Words& words, const std::string& why) {
    const Result r = run(train("refused", 0, with(offline, words)));
    EXPECT_EQ(r.status, 4) << r.errors;
    EXPECT_NE(r.errors.find(why), std::string::npos) << r.errors;
  };
  refused({"distill.temperature=2"}, "found a cache made with distill.temperature 1, expected 2");
  refused({"distill.top_k=8"}, "16 (top-k), expected 8 (top-k)");
  refused({"data.sequence_length=16"}, "data.sequence_length 32, expected 16");
  refused({"run.steps=9"}, "without 8 of the 72 windows of the source `made`");
  expect_ok(run(train("other", 0, with(exact, {"run.steps=1", "model.hidden_size=64"}))));
  refused({"distill.teacher.from=" + run_directory("other").string()}, "distill.teacher.from");
}

TEST_F(Distill, WhatCannotBeLearnedFromIsRefusedBeforeTheFirstStep) {
  expect_ok(run(train("teacher", 0, {"run.steps=1", "model.vocab_size=272"})));
  const std::string from = "distill.teacher.from=" + run_directory("teacher").string();
  const auto refused = [&](const Words& words, int status, const std::string& why) {
    const Result r = run(train("refused", 0, with({"distill.mode=online"}, words)));
    EXPECT_EQ(r.status, status) << r.errors;
    EXPECT_NE(r.errors.find(why), std::string::npos) << r.errors;
    EXPECT_FALSE(std::filesystem::exists(run_directory("refused") / "metrics.jsonl"));
  };
  refused({from}, 4, "found a teacher of 272 rows in its vocabulary, expected the student's 320 or more");
  refused({from + "-absent"}, 4, "found no ");
  refused({from, "distill.teacher.terms.allows=[read]"}, 2, "distill was expected among them");
  refused({from, "model.vocab_size=272", "distill.teacher.parallel.tensor=2"}, 2,
          "found 1 ranks, expected a multiple of the teacher's 2");
  const Words alike{from, "model.vocab_size=272", "--ranks=8", "--dry-run"};
  refused(with(alike, {"distill.teacher.parallel.tensor=8"}), 2, "distill.teacher.parallel.tensor: found 8");
  refused(with(alike, {"distill.teacher.parallel.virtual_stages=2"}), 2, "virtual stages without a pipeline");
  refused(with(alike, {"distill.teacher.precision=fp8-block"}), 2, "of the teacher");
  refused({}, 2, "found `online` without a teacher");
}

}  // namespace
}  // namespace fourmi::testing
