// Spikes are found in their step and nothing else is: on the figures of a real run, and on long runs made from them.
#include "framework/train/spike.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <random>
#include <sstream>

#include "framework/train/guard_state.h"

namespace fourmi {
namespace {

struct Figures {
  double norm, loss;
};

/// The 480 steps of recipes/tiny.yaml.
std::vector<Figures> real_run() {
  std::ifstream file(FOURMI_SOURCE_DIR "/tests/train/goldens/tiny_norms.txt");
  std::vector<Figures> run;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    Figures f{};
    if (words >> f.norm >> f.loss) run.push_back(f);
  }
  EXPECT_EQ(run.size(), 480u);
  return run;
}

/// The real run, then `more` steps: a slow fall, around which the deviations of the real run's last 200 steps come in
/// random order, 1.3 times as large.
std::vector<Figures> long_run(std::int64_t more, unsigned seed) {
  std::vector<Figures> run = real_run();
  const std::vector<Figures> last(run.end() - 200, run.end());
  const auto trend = [&](std::size_t i, auto figure) {
    double sum = 0;
    int n = 0;
    for (std::size_t j = i < 15 ? 0 : i - 15; j < std::min(last.size(), i + 16); ++j, ++n) sum += figure(last[j]);
    return sum / n;
  };
  const auto log_norm = [](const Figures& f) { return std::log(f.norm); };
  const auto loss = [](const Figures& f) { return f.loss; };
  std::mt19937 random(seed);
  const double end_norm = trend(199, log_norm), end_loss = trend(199, loss);
  for (std::int64_t i = 0; i < more; ++i) {
    const std::size_t j = random() % last.size();
    const double fall = 0.3 * static_cast<double>(i) / static_cast<double>(more);
    run.push_back({std::exp(end_norm - fall + 1.3 * (log_norm(last[j]) - trend(j, log_norm))),
                   end_loss - fall + 1.3 * (last[j].loss - trend(j, loss))});
  }
  return run;
}

const SpikeRule rule{8, 200};

/// Steps (from 0) that are taken for spikes; these are not added to the history, as in a run that skips them.
std::vector<std::size_t> spikes_of(const std::vector<Figures>& run) {
  SpikeHistory history;
  std::vector<double> scratch;
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < run.size(); ++i) {
    if (find_spike(history, rule, run[i].norm, run[i].loss, scratch).is_spike)
      found.push_back(i);
    else
      add_good_step(history, rule, run[i].norm, run[i].loss);
  }
  return found;
}

TEST(Spike, NoAlarmInARealRunNorInFiveThousandStepsMore) {
  EXPECT_EQ(spikes_of(real_run()), std::vector<std::size_t>());
  for (unsigned seed = 1; seed <= 5; ++seed)
    EXPECT_EQ(spikes_of(long_run(5000, seed)), std::vector<std::size_t>()) << seed;
}

// Each of 100 random steps after the first hundred, alone in its run.
TEST(Spike, TenTimesTheGradientIsCaughtInItsStep) {
  const std::vector<Figures> run = real_run();
  std::mt19937 random(2026);
  int caught = 0;
  for (int i = 0; i < 100; ++i) {
    std::vector<Figures> spoiled = run;
    const std::size_t at = 100 + random() % 380;
    spoiled[at].norm *= 10;
    caught += spikes_of(spoiled) == std::vector<std::size_t>{at};
  }
  EXPECT_GE(caught, 95);
  RecordProperty("caught_of_100", caught);
}

TEST(Spike, ManyInOneRunDoNotHideOneAnother) {
  std::vector<Figures> run = long_run(1000, 7);
  std::vector<std::size_t> expected;
  for (std::size_t at = 110; at < run.size(); at += 13) {
    run[at].norm *= 10;
    expected.push_back(at);
  }
  const std::vector<std::size_t> found = spikes_of(run);
  EXPECT_GE(std::ssize(found), std::ssize(expected) * 95 / 100);
  EXPECT_TRUE(std::includes(expected.begin(), expected.end(), found.begin(), found.end()))
      << "a clean step was taken for a spike";
}

TEST(Spike, ALossFarAboveIsOneToo) {
  std::vector<Figures> run = real_run();
  run[300].loss *= 1.5;
  EXPECT_EQ(spikes_of(run), std::vector<std::size_t>{300});
  SpikeHistory history;
  std::vector<double> scratch;
  for (std::size_t i = 0; i < 300; ++i) add_good_step(history, rule, run[i].norm, run[i].loss);
  EXPECT_STREQ(find_spike(history, rule, run[300].norm, run[300].loss, scratch).what, "loss");
}

// Where the last steps do not scatter at all, a unit is 0.1 of the logarithm of the norm, and 2% of the loss.
TEST(Spike, AFlatRunHasAUnitToo) {
  SpikeHistory history;
  std::vector<double> scratch;
  for (int i = 0; i < 300; ++i) add_good_step(history, rule, 3, 2.5);
  const auto is_spike = [&](double norm, double loss) {
    return find_spike(history, rule, norm, loss, scratch).is_spike;
  };
  EXPECT_FALSE(is_spike(3 * std::exp(0.79), 2.5));
  EXPECT_TRUE(is_spike(3 * std::exp(0.81), 2.5));
  EXPECT_FALSE(is_spike(3, 2.5 * (1 + 7.9 * 0.02)));
  EXPECT_TRUE(is_spike(3, 2.5 * (1 + 8.1 * 0.02)));
}

TEST(Spike, NothingIsSaidBeforeHalfAWindow) {
  SpikeHistory history;
  std::vector<double> scratch;
  for (int i = 0; i < 99; ++i) add_good_step(history, rule, 1, 1);
  EXPECT_FALSE(find_spike(history, rule, 1e9, 1e9, scratch).is_spike);
  add_good_step(history, rule, 1, 1);
  EXPECT_TRUE(find_spike(history, rule, 1e9, 1, scratch).is_spike);
}

// The statistic beside its definition, written out again: median of 16, scale of the last min(window, good / 2).
TEST(Spike, IsWhatItsDefinitionSays) {
  const SpikeRule narrow{5, 64};
  const auto upper_median = [](std::vector<double> x) {
    std::sort(x.begin(), x.end());
    return x[x.size() / 2];
  };
  SpikeHistory history;
  std::vector<double> scratch;
  std::vector<double> logs;
  std::mt19937 random(3);
  std::normal_distribution<double> noise(0, 0.4);
  for (int i = 0; i < 300; ++i) {
    const double norm = std::exp(noise(random));
    if (i >= 32) {
      const std::size_t spread = std::min<std::size_t>(64, logs.size() / 2);
      const double near = upper_median({logs.end() - 16, logs.end()}),
                   all = upper_median({logs.end() - static_cast<std::ptrdiff_t>(spread), logs.end()});
      std::vector<double> deviations;
      for (std::size_t j = logs.size() - spread; j < logs.size(); ++j) deviations.push_back(std::abs(logs[j] - all));
      const double z = (std::log(norm) - near) / std::max(0.1, 1.4826 * upper_median(deviations));
      const SpikeFinding found = find_spike(history, narrow, norm, 1, scratch);
      if (z > 0) {
        EXPECT_NEAR(found.z, z, 1e-9 * z) << i;
        EXPECT_EQ(found.is_spike, z > 5) << i;
      }
    }
    logs.push_back(std::log(norm));
    add_good_step(history, narrow, norm, 1);
    EXPECT_LE(history.losses.size(), 64u);
  }
  EXPECT_EQ(history.num_good, 300);
}

TEST(Spike, TheHistorySurvivesJsonToTheBit) {
  GuardState state;
  for (const Figures& f : real_run()) add_good_step(state.history, rule, f.norm, f.loss);
  add_good_step(state.history, rule, 0, 2);
  state.history.in_a_row = 3;
  state.left_out = {{31, 768, 992}, {40, 992, 1024}};
  state.promoted = {{101, 3}, {201, 0}};
  const std::string json = to_json(state);
  EXPECT_EQ(guard_state_from_json(json, "here"), state);
  EXPECT_EQ(to_json(guard_state_from_json(json, "here")), json);
  for (const char* bad : {"", "[]", "{}", R"({"num_good":1,"in_a_row":0,"log_norms":[1],"losses":[],"left_out":[]})"})
    EXPECT_ANY_THROW(guard_state_from_json(bad, "here")) << bad;
  // Checkpoints from before layers could be promoted.
  const char* older = R"({"num_good":0,"in_a_row":0,"log_norms":[],"losses":[],"left_out":[]})";
  EXPECT_EQ(guard_state_from_json(older, "here"), GuardState{});
}

}  // namespace
}  // namespace fourmi
