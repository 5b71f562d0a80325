#include "framework/run/start.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "kernels/runtime/error.h"
#include "tests/run/injected_io.h"
#include "tests/run/temp_folder.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using Class = recipe::KeyClass;
using Kind = StartDecision::Kind;

const ChangedKey free_change{"run.steps", "160", "320", Class::free};
const ChangedKey asked_change{"optimizer.learning_rate", "0.006", "0.003", Class::asked};
const ChangedKey fixed_change{"model.hidden_size", "128", "256", Class::fixed};

CompareWithRecorded differing(std::vector<ChangedKey> changes) {
  return [changes](const fs::path&) { return changes; };
}

StartDecision never_asked(const StartWish& wish) {
  return decide_start(wish, [](const fs::path&) -> std::vector<ChangedKey> {
    ADD_FAILURE() << "compared";
    return {};
  });
}

void expect_refused(const StartWish& wish, const std::vector<ChangedKey>& changes, ExitStatus status,
                    const std::string& place, const std::vector<std::string>& words) {
  try {
    decide_start(wish, differing(changes));
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), status) << error.what();
    EXPECT_EQ(error.place(), place);
    for (const auto& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << word << " in " << error.what();
    }
  }
}

/// A directory that holds a run, with its metrics and a checkpoint.
void make_run(const fs::path& run, const StartDecision& decision = {}, std::int64_t step = 0) {
  LaunchRecord record;
  record.number = next_launch(run);
  record.step = step;
  record.hosts = {"a", "a", "b"};
  record.recipe = "run:\n  name: x\n";
  record_start(run, decision, record);
}

TEST(Start, EmptyOrAbsentDirectoryBegins) {
  const TempFolder folder;
  EXPECT_EQ(never_asked({folder.path(), "auto", false}).kind, Kind::fresh);
  EXPECT_EQ(never_asked({folder.path(), "never", false}).kind, Kind::fresh);
  EXPECT_EQ(never_asked({folder.path() / "absent", "auto", true}).kind, Kind::fresh);
  // What a launch leaves that ended before it recorded its start.
  put_text(folder.path() / "lease" / "000001.released.json", "{}");
  put_text(folder.path() / "launches" / "1.yaml", "");
  fs::create_directories(folder.path() / "checkpoints");
  EXPECT_EQ(never_asked({folder.path(), "never", false}).kind, Kind::fresh);
}

TEST(Start, AutoGoesOnWithFreeChangesKept) {
  const TempFolder folder;
  make_run(folder.path());
  auto decision = decide_start({folder.path(), "auto", false}, differing({}));
  EXPECT_EQ(decision.kind, Kind::go_on);
  EXPECT_TRUE(decision.branch_from.empty());
  decision = decide_start({folder.path(), "auto", false}, differing({free_change}));
  EXPECT_EQ(decision.kind, Kind::go_on);
  ASSERT_EQ(decision.changes.size(), 1u);
  EXPECT_EQ(to_string(decision.changes[0]), "run.steps: 160 -> 320");
}

TEST(Start, AskedKeyIsRefusedWithBothRemediesUnlessAccepted) {
  const TempFolder folder;
  make_run(folder.path());
  expect_refused({folder.path(), "auto", false}, {free_change, asked_change}, ExitStatus::usage,
                 "optimizer.learning_rate", {"0.003", "0.006", "--accept-changes", "another run.directory"});
  const auto decision = decide_start({folder.path(), "auto", true}, differing({free_change, asked_change}));
  EXPECT_EQ(decision.kind, Kind::go_on);
  EXPECT_EQ(decision.changes.size(), 2u);
}

TEST(Start, FixedKeyIsRefusedAlwaysAndNotWithAFalseRemedy) {
  const TempFolder folder;
  make_run(folder.path());
  for (const bool accept : {false, true}) {
    expect_refused({folder.path(), "auto", accept}, {asked_change, fixed_change}, ExitStatus::usage,
                   "model.hidden_size", {"256", "128", "another run.directory"});
    try {
      decide_start({folder.path(), "auto", accept}, differing({fixed_change}));
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find("--accept-changes"), std::string::npos);
    }
  }
}

TEST(Start, SeveralRefusedKeysAreAllNamed) {
  const TempFolder folder;
  make_run(folder.path());
  std::vector<ChangedKey> many;
  for (int i = 0; i < 12; ++i)
    many.push_back({fmt::format("loss.key{}", i), fmt::format("old{}", i), fmt::format("new{}", i), Class::asked});
  expect_refused(
      {folder.path(), "auto", false}, many, ExitStatus::usage, "recipe",
      {"12 changed keys", "loss.key0: old0 -> new0", "loss.key7: old7 -> new7", "and 4 more", "--accept-changes"});
}

TEST(Start, NeverNeedsADirectoryWithoutARun) {
  const TempFolder folder;
  make_run(folder.path());
  expect_refused({folder.path(), "never", true}, {}, ExitStatus::usage, "checkpoint.resume",
                 {"never", "another run.directory", "auto"});
}

TEST(Start, PathBranchesIntoAnotherDirectory) {
  const TempFolder source, folder;
  make_run(source.path());
  put_text(source.path() / "metrics.jsonl", "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
  const fs::path checkpoint = source.path() / "checkpoints" / "step-00000002";
  fs::create_directories(checkpoint);
  EXPECT_EQ(run_of(checkpoint), fs::canonical(source.path()));
  EXPECT_EQ(run_of(source.path()), source.path());

  const StartWish wish{folder.path() / "branch", checkpoint.string(), false};
  const auto decision = decide_start(wish, differing({asked_change}));
  EXPECT_EQ(decision.kind, Kind::branch);
  EXPECT_EQ(decision.branch_from, checkpoint);
  EXPECT_EQ(decision.changes.size(), 1u);
  expect_refused(wish, {fixed_change}, ExitStatus::usage, "model.hidden_size", {"128", "256", "without"});

  make_run(wish.directory, decision, 2);
  EXPECT_EQ(lines_of(wish.directory / "metrics.jsonl").size(), 2u);
  // The same command goes on; so does auto; both know where the run came from.
  for (const std::string& resume : {checkpoint.string(), std::string("auto")}) {
    const auto again = decide_start({wish.directory, resume, false}, differing({}));
    EXPECT_EQ(again.kind, Kind::go_on);
    EXPECT_TRUE(fs::equivalent(again.branch_from, checkpoint));
    make_run(wish.directory, again, 2);
  }
  // Another checkpoint is another branch.
  const fs::path other = source.path() / "checkpoints" / "step-00000001";
  fs::create_directories(other);
  expect_refused({wish.directory, other.string(), true}, {}, ExitStatus::usage, "checkpoint.resume",
                 {other.string(), "another run.directory"});
}

TEST(Start, PathIntoTheSameRunIsRefused) {
  const TempFolder folder;
  make_run(folder.path());
  const fs::path checkpoint = folder.path() / "checkpoints" / "step-00000002";
  fs::create_directories(checkpoint);
  expect_refused({folder.path(), checkpoint.string(), true}, {}, ExitStatus::usage, "checkpoint.resume",
                 {"another run.directory"});
}

TEST(Start, AbsentPathIsAnAbsentInput) {
  const TempFolder folder;
  expect_refused({folder.path(), "/absent/step-1", false}, {}, ExitStatus::input, "checkpoint.resume",
                 {"/absent/step-1"});
}

TEST(Start, CheckpointThatStandsAloneBranches) {
  const TempFolder folder;
  const fs::path checkpoint = folder.path() / "copied";
  fs::create_directories(checkpoint);
  const auto decision = never_asked({folder.path() / "run", checkpoint.string(), false});
  EXPECT_EQ(decision.kind, Kind::branch);
  make_run(folder.path() / "run", decision, 2);
  EXPECT_FALSE(fs::exists(folder.path() / "run" / "metrics.jsonl"));
}

TEST(Start, DamagedDirectoriesAreInputErrors) {
  const TempFolder folder;
  fs::create_directories(folder.path() / "checkpoints" / "step-00000100");
  expect_refused({folder.path(), "auto", false}, {}, ExitStatus::input, folder.path().string(), {"recipe.yaml"});
  make_run(folder.path());
  try {
    decide_start({folder.path(), "auto", false}, [](const fs::path& recorded) -> std::vector<ChangedKey> {
      throw Error(ExitStatus::usage, recorded.string() + ":1:1", "garbage, a map");
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), ExitStatus::input);
    EXPECT_EQ(error.place(), (folder.path() / "recipe.yaml").string());
  }
}

TEST(Start, LaunchesAreNumberedAndRecorded) {
  const TempFolder folder;
  EXPECT_EQ(next_launch(folder.path()), 1);
  make_run(folder.path());
  make_run(folder.path(), {Kind::go_on, {}, {asked_change}});
  EXPECT_EQ(next_launch(folder.path()), 3);
  const std::string text = text_of(folder.path() / "launches" / "2.yaml");
  for (const char* part :
       {"launch: 2\n", "started_as: \"go on\"\n", "ranks: 3\n", "{host: \"a\", first_rank: 0, last_rank: 1}",
        "{host: \"b\", first_rank: 2, last_rank: 2}", "libraries: {}\n",
        "- \"optimizer.learning_rate: 0.006 -> 0.003\"", "recipe:\n  run:\n    name: x\n"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << text;
  }
  EXPECT_EQ(text_of(folder.path() / "recipe.yaml"), "run:\n  name: x\n");
}

TEST(Start, KilledAnywhereWhileABranchIsRecordedTheSameCommandBranchesRightly) {
  const TempFolder source;
  make_run(source.path());
  put_text(source.path() / "metrics.jsonl", "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
  const fs::path checkpoint = source.path() / "checkpoints" / "step-00000002";
  fs::create_directories(checkpoint);
  int kills = 0;
  for (int n = 1;; ++n) {
    const TempFolder folder;
    const auto launch = [&] {
      const auto decision = decide_start({folder.path(), checkpoint.string(), false}, differing({}));
      make_run(folder.path(), decision, 2);
    };
    const int status = injected::in_child([&] {
      injected::arm(injected::Fault::kill, n);
      launch();
    });
    launch();
    EXPECT_EQ(lines_of(folder.path() / "metrics.jsonl").size(), 2u) << n;
    EXPECT_EQ(decide_start({folder.path(), "auto", false}, differing({})).branch_from, checkpoint) << n;
    if (status == 0) break;
    ASSERT_EQ(status, -SIGKILL);
    ++kills;
  }
  EXPECT_GE(kills, 12);
}

}  // namespace
}  // namespace fourmi
