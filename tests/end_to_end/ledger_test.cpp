// The ledger of real runs: whatever was killed, branched or fine-tuned, it tells of exactly the tokens that the model
// learned.
#include "tests/end_to_end/two_sources.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Ledger : public Scene {
 protected:
  /// A step is 8 sequences of 32 tokens.
  Words words() const { return joined(two_sources(folder()), {"run.steps=12", "checkpoint.every=3"}); }
  json trace(const std::string& run_name) const { return verified_trace(run_directory(run_name)); }
  /// The trace sums up to the metrics' tokens, and prose has three quarters of them to within the windows of a step.
  void expect_right(const std::string& name, std::int64_t steps) const {
    expect_each_step_once(run_directory(name), steps);
    const std::int64_t tokens = step_lines(run_directory(name)).back().tokens;
    const json t = trace(name);
    EXPECT_EQ(t["tokens"], tokens);
    EXPECT_EQ(t["run_tokens"], tokens);
    EXPECT_EQ(t["step"], steps);
    ASSERT_EQ(t["sources"].size(), 2u);
    EXPECT_EQ(t["sources"][0]["name"], "prose");
    EXPECT_EQ(t["sources"][0]["license"], "CC0-1.0");
    EXPECT_EQ(t["sources"][1]["license"], "LicenseRef-verse");
    const auto prose = t["sources"][0]["tokens"].get<std::int64_t>(),
               verse = t["sources"][1]["tokens"].get<std::int64_t>();
    EXPECT_EQ(prose + verse, tokens);
    EXPECT_NEAR(static_cast<double>(prose), 0.75 * static_cast<double>(tokens), 2 * 32.0);
  }
  void expect_error(const Result& result, int status, const std::string& named) const {
    SCOPED_TRACE(to_string(result));
    EXPECT_EQ(result.status, status);
    ASSERT_EQ(result.error_lines().size(), 1u);
    EXPECT_NE(result.errors.find(named), std::string::npos);  // of several errors, the last line only counts them
  }
};

TEST_F(Ledger, TellsTheRunsTokensAfterKillsOnFourRanks) {
  const Words words = this->words();
  kill_in({"wait", 3, "backward", 2}, "run", 4, words);  // before there is a checkpoint
  kill_in({"wait", 0, "forward", 5}, "run", 4, words);   // beyond one
  kill_in({"wait", 1, "save", 9}, "run", 4, words);      // while one is being made
  expect_ok(run(train("run", 4, words)));
  expect_right("run", 12);
  const json t = trace("run");
  EXPECT_GE(t["runs"].back()["launches"].get<int>(), 2);
  // The side branches are there, and are no part of it.
  const json all = ledger_entries(run_directory("run"), true), mine = ledger_entries(run_directory("run"));
  EXPECT_GT(all.size(), mine.size());
  EXPECT_EQ(mine.back()["type"], "checkpoint");
  EXPECT_EQ(mine.back()["payload"]["root"], root_of(newest_checkpoint(run_directory("run"))));
}

TEST_F(Ledger, ATornLastLineIsCutOffAndTheRunGoesOn) {
  const Words words = this->words();
  expect_ok(run(train("run", 0, joined(words, {"run.steps=6"}))));
  std::ofstream(run_directory("run") / "ledger.jsonl", std::ios::app) << "{\"index\":9,\"payl";
  expect_ok(run(train("run", 0, words)));
  expect_right("run", 12);
}

TEST_F(Ledger, ALostOrChangedLedgerIsFoundAndTheRunGoesOnOnlyWhenAsked) {
  const Words words = this->words();
  expect_ok(run(train("run", 0, joined(words, {"run.steps=6"}))));
  const fs::path ledger = run_directory("run") / "ledger.jsonl";
  const std::string good = text_of(ledger);
  std::string bad = good;
  bad[bad.find("\"tokens\":") + 9] ^= 1;
  std::ofstream(ledger) << bad;
  expect_error(run(fourmi({"ledger", "verify", run_directory("run")})), 4, "ledger.jsonl");
  expect_error(run(train("run", 4, words)), 4, "ledger.jsonl");
  fs::remove(ledger);
  expect_error(run(fourmi({"ledger", "trace", run_directory("run")})), 4, "ledger.jsonl");
  expect_error(run(train("run", 0, words)), 4, "--accept-changes");
  std::ofstream(ledger) << good;
  expect_ok(run(train("run", 0, joined(words, {"run.steps=9"}))));
  fs::remove(ledger);
  expect_ok(run(train("run", 0, joined(words, {"--accept-changes"}))));
  const json t = trace("run");
  const auto lines = step_lines(run_directory("run"));
  EXPECT_EQ(t["tokens"], lines.back().tokens);
  EXPECT_EQ(t["sources"][0]["name"], "(unrecorded)");
  EXPECT_EQ(t["sources"][0]["tokens"], lines[8].tokens);
}

TEST_F(Ledger, BranchesAndModelFromKeepTheirParentsLineage) {
  const Words words = this->words();
  expect_ok(run(train("parent", 4, joined(words, {"checkpoint.keep.last=9"}))));
  const fs::path at_six = run_directory("parent") / "checkpoints/step-00000006";

  expect_ok(run(
      train("branch", 0,
            joined(words, {"checkpoint.resume=" + at_six.string(), "run.steps=9", "optimizer.learning_rate=0.001"}))));
  expect_right("branch", 9);
  for (int i = 0; i < 6; ++i)
    EXPECT_TRUE(same_bits(step_lines(run_directory("branch"))[static_cast<std::size_t>(i)],
                          step_lines(run_directory("parent"))[static_cast<std::size_t>(i)]));

  // The weights alone, on another number of ranks, killed before its first checkpoint, then on other data.
  const Words tuned{"model.from=" + run_directory("parent").string(), "run.steps=4", "checkpoint.every=2",
                    "run.seed=9"};
  kill_in({"wait", 1, "forward", 2}, "tuned", 2, tuned);
  expect_ok(run(train("tuned", 2, tuned)));
  expect_each_step_once(run_directory("tuned"), 4);
  const std::int64_t before = step_lines(run_directory("parent")).back().tokens,
                     own = step_lines(run_directory("tuned")).back().tokens;
  fs::remove_all(run_directory("parent"));  // its ledger stands on its own
  const json t = trace("tuned");
  EXPECT_EQ(t["tokens"], before + own);
  EXPECT_EQ(t["run_tokens"], own);
  ASSERT_EQ(t["sources"].size(), 3u);
  EXPECT_EQ(t["sources"][2]["name"], "made");
  EXPECT_EQ(t["sources"][2]["tokens"], own);
  ASSERT_EQ(t["runs"].size(), 2u);
  EXPECT_EQ(t["runs"][0]["tokens"], before);
}

TEST_F(Ledger, PolicyRefusesBeforeTheFirstStep) {
  const Words words = this->words();
  const auto refused = [&](const Words& policy, const std::string& named) {
    const Words all = joined(words, policy);
    expect_error(run(train("run", 4, all)), 2, named);
    EXPECT_FALSE(fs::exists(run_directory("run") / "metrics.jsonl"));
    Words validate = overrides("run", all), dry = validate;
    validate.insert(validate.begin(), {"validate", small_recipe});
    expect_error(run(fourmi(validate)), 2, named);
    dry.insert(dry.begin(), {"train", small_recipe});
    dry.push_back("--dry-run");
    expect_error(run(fourmi(dry)), 2, named);
  };
  refused({"ledger.policy.require=[license, source]"}, "found no source of the source `verse`");
  refused({"ledger.policy.require=[digest]"}, "found no digest of the source `prose`");
  refused({"ledger.policy.deny=[custom]"}, "found the source `verse` under LicenseRef-verse");
  refused({"ledger.policy.deny=[CC0-1.0]"}, "found the source `prose` under CC0-1.0");
  refused({"data.train.prose.license=CC0"}, "Did you mean");
  expect_ok(run(
      train("run", 0,
            joined(words, {"ledger.policy.require=[license]", "ledger.policy.deny=[non-commercial]", "run.steps=3"}))));
  // What the model learned from counts too.
  expect_error(run(train("run", 4,
                         joined(words, {"data.train=[{name: made, format: synthetic}]", "ledger.policy.deny=[CC0-1.0]",
                                        "--accept-changes"}))),
               2, "ledger.policy.deny");
}

TEST_F(Ledger, APinnedDigestIsHeldAgainstTheFile) {
  const Words words = this->words();
  const Result wrong = run(train("run", 4, joined(words, {"data.train.prose.sha256=" + std::string(64, 'a')})));
  expect_error(wrong, 4, "data.train.prose");
  const std::size_t at = wrong.errors.find("found the SHA-256 ");
  ASSERT_NE(at, std::string::npos);
  const std::string right = wrong.errors.substr(at + 18, 64);
  expect_ok(run(train("run", 0, joined(words, {"data.train.prose.sha256=" + right, "run.steps=3"}))));
  // Data that are changed afterwards are found.
  std::ofstream(folder() / "prose", std::ios::app) << "more\n";
  expect_error(run(fourmi({"ledger", "verify", run_directory("run"), "--data"})), 4, "prose");
  expect_ok(run(fourmi({"ledger", "verify", run_directory("run")})));
}

}  // namespace
}  // namespace fourmi::testing
