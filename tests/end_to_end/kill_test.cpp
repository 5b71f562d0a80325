// Killed at any moment: a run with frequent saves is killed again and again, whole or one rank of it, and always ends
// as the run that nobody disturbed: the same bits, every sample of both sources once, and a ledger that counts just
// these. The moments are drawn from a seed; what a moment hits is chance.
#include <map>
#include <random>

#include "tests/end_to_end/two_sources.h"

namespace fourmi::testing {
namespace {

// One pass over both sources is 45 steps of 8 windows of 32 tokens, no token left over.
constexpr int ranks = 4, steps = 45, every = 3;
constexpr SourceTokens sizes{.prose = 270 * 32, .verse = 90 * 32};
static_assert(sizes.prose + sizes.verse == steps * 8 * 32);

struct Campaign {
  int kills;
  unsigned seed;
  friend void PrintTo(const Campaign& c, std::ostream* out) { *out << c.kills << " kills, seed " << c.seed; }
};

class KillAtRandom : public Scene, public ::testing::WithParamInterface<Campaign> {
 protected:
  Words words() const {
    return joined(
        two_sources(folder(), sizes),
        {"run.epochs=1", "data.repeat=1", "checkpoint.every=" + std::to_string(every), "checkpoint.keep={last: 2}"});
  }

  void expect_undisturbed(const std::string& run_name) {
    expect_each_step_once(run_directory(run_name), steps);
    expect_same_run(run_directory(run_name), run_directory("whole"));
    const auto whole = step_lines(run_directory("whole"));
    for (const StepLine& line : step_lines(run_directory(run_name), "metrics.superseded"))
      EXPECT_TRUE(same_bits(line, whole.at(static_cast<std::size_t>(line.step - 1)))) << line.step;
    expect_ok(run(fourmi({"checkpoint", "verify", run_directory(run_name)})));
    expect_each_sample_once(run_directory(run_name));
  }

  /// A pass of `repeat` 1 reads no sample twice if it reads as many as there are; the bits, which are those of the
  /// undisturbed run step by step, say that they are the same ones in the same order. The position, the metrics and the
  /// ledger must agree on that, each in its own way.
  void expect_each_sample_once(const std::filesystem::path& run) {
    SCOPED_TRACE(run);
    const auto position = saved_training(run).at("position");
    EXPECT_EQ(position.at("samples"), steps * 8);
    for (const auto& source : position.at("sources")) {
      EXPECT_EQ(source.at("epoch"), 1);
      EXPECT_EQ(source.at("index"), 0);
    }
    EXPECT_EQ(step_lines(run).back().tokens, sizes.prose + sizes.verse);

    const auto traced = verified_trace(run);
    EXPECT_EQ(traced.at("tokens"), sizes.prose + sizes.verse);
    EXPECT_EQ(traced.at("run_tokens"), sizes.prose + sizes.verse);
    ASSERT_EQ(traced.at("sources").size(), 2u);
    EXPECT_EQ(traced.at("sources")[0].at("tokens"), sizes.prose);
    EXPECT_EQ(traced.at("sources")[1].at("tokens"), sizes.verse);

    // The entries themselves, summed up by the test: each step in one entry, each source's tokens once.
    std::map<std::string, std::int64_t> tokens;
    std::map<std::string, std::string> names;
    std::int64_t step = 0;
    for (const auto& entry : ledger_entries(run)) {
      const auto& payload = entry.at("payload");
      if (entry.at("type") == "dataset") names[payload.at("id")] = payload.at("name");
      if (entry.at("type") != "tokens") continue;
      EXPECT_EQ(payload.at("from_step"), step);
      step = payload.at("to_step");
      for (const auto& source : payload.at("sources"))
        tokens[names.at(source.at("dataset"))] += source.at("tokens").get<std::int64_t>();
    }
    EXPECT_EQ(step, steps);
    EXPECT_EQ(tokens, (std::map<std::string, std::int64_t>{{"prose", sizes.prose}, {"verse", sizes.verse}}));
  }
};
INSTANTIATE_TEST_SUITE_P(Short, KillAtRandom, ::testing::Values(Campaign{6, 1}));
INSTANTIATE_TEST_SUITE_P(Long, KillAtRandom,
                         ::testing::Values(Campaign{25, 2}, Campaign{25, 3}, Campaign{25, 4}, Campaign{25, 5}));

TEST_P(KillAtRandom, AlwaysEndsAsTheUndisturbedRun) {
  const Result whole = run(train("whole", ranks, words()), {}, Seconds(120));
  expect_ok(whole);
  std::mt19937 random(GetParam().seed);
  // Up to a little more than a launch needs for a third of the run: some kills fall into its start, some into saves.
  const double longest = 0.5 + whole.seconds / 3;
  int kills = 0, rounds = 0, in_the_middle = 0;
  while (kills < GetParam().kills) {
    const std::string name = "killed-" + std::to_string(rounds++);
    for (bool ended = false; !ended && kills < GetParam().kills; ++kills) {
      Process job(train(name, ranks, words()));
      std::this_thread::sleep_for(Seconds(longest * static_cast<double>(random()) / static_cast<double>(random.max())));
      const std::vector<pid_t> processes = job.processes("fourmi");
      if (random() % 2 == 0 || processes.size() != ranks) {
        job.kill_all();
      } else {
        ::kill(processes[random() % ranks], SIGKILL);
        const Result result = job.wait(Seconds(60));
        EXPECT_FALSE(result.timed_out) << to_string(result);
        // The rank may have been about to end when it was killed.
        EXPECT_TRUE(result.status == 7 || result.status == 0) << to_string(result);
      }
      const auto done = step_lines(run_directory(name)).size();
      in_the_middle += done > 0 && done < steps;
      ended = saved_step(name) == steps;
    }
    const Result last = run(train(name, ranks, words()), {}, Seconds(120));
    expect_ok(last);
    expect_undisturbed(name);
    if (HasFailure()) return;
  }
  EXPECT_GE(in_the_middle, kills / 4) << "most kills hit a run that had not begun or was over";
  RecordProperty("kills", kills);
  RecordProperty("in_the_middle", in_the_middle);
}

}  // namespace
}  // namespace fourmi::testing
