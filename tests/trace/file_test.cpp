// One file a step: all ranks' lanes on one clock, and the simulated step beside them.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/pipeline/pipeline_recipe.h"
#include "tests/run/temp_folder.h"
#include "tests/trace/traced_run.h"

namespace fourmi {
namespace {

using Json = nlohmann::json;

constexpr int ranks = 4;

Recipe recipe_of() {
  Recipe r = with_pipeline(deep_recipe(Compute::fp32, Reproducibility::run), "1f1b", 2);
  r.parallel.tensor = 2;
  return r;
}

Json traced(const TracedRun& how) {
  const TempFolder run;
  TracedRun run_there = how;
  run_there.directory = run.path();
  run_traced(recipe_of(), ranks, run_there);
  std::ifstream in(trace_path(run.path(), 2));
  EXPECT_FALSE(std::filesystem::exists(trace_path(run.path(), 2).string() + ".part"));
  return Json::parse(in);
}

/// Milliseconds apart, to both sides.
std::int64_t far_ahead(int rank) {
  constexpr std::int64_t ms = 1'000'000;
  return std::array{0 * ms, 40 * ms, -30 * ms, 90 * ms}[static_cast<std::size_t>(rank)];
}

struct Times {
  double begin = 0, end = 0;
};
Times times(const Json& e) {
  return {e["ts"].get<double>(), e["ts"].get<double>() + e["dur"].get<double>()};
}

/// How often something ended on one rank before it began on another one that it needs, beyond the clocks' errors.
int violations(const Json& trace) {
  std::vector<double> error;
  for (const Json& rank : trace["otherData"]["ranks"]) error.push_back(rank["clock_error_us"]);
  const auto slack = [&](int a, int b) {
    return error[static_cast<std::size_t>(a)] + error[static_cast<std::size_t>(b)] + 0.01;
  };
  std::map<std::string, std::map<int, Times>> gathers, sends, receives;
  for (const Json& e : trace["traceEvents"]) {
    if (e["ph"] != "X" || e["cat"] != "communication") continue;
    const Json& args = e["args"];
    if (e["name"] == "all_gather")
      gathers[args["ranks"].get<std::string>() + " #" + args["number"].dump()][e["pid"]] = times(e);
    if (e["name"] == "send") sends[args["from"].dump() + ">" + args["to"].dump() + args["tag"].dump()][0] = times(e);
    if (e["name"] == "receive")
      receives[args["from"].dump() + ">" + args["to"].dump() + args["tag"].dump()][e["pid"]] = times(e);
  }
  EXPECT_GE(sends.size(), 2u * 8u * 2u) << "8 micro-batches there and back, 2 tensor ranks";
  EXPECT_EQ(sends.size(), receives.size());
  EXPECT_GE(gathers.size(), 16u);
  int wrong = 0;
  for (const auto& [key, send] : sends) {
    EXPECT_EQ(receives.count(key), 1u) << key;
    const int from = std::stoi(key);
    for (const auto& [to, receive] : receives[key]) wrong += receive.end < send.at(0).begin - slack(from, to);
  }
  for (const auto& [key, members] : gathers) {
    EXPECT_GE(members.size(), 2u) << key;
    for (const auto& [a, one] : members)
      for (const auto& [b, other] : members) wrong += one.end < other.begin - slack(a, b);
  }
  return wrong;
}

TEST(TraceFile, HasTheLanesOfAllRanksAndTheSimulation) {
  const Json trace = traced({});
  std::map<int, std::set<std::string>> lanes;
  std::map<int, std::string> processes;
  std::map<std::pair<int, int>, std::vector<Times>> spans;
  std::map<int, std::set<std::string>> seen;
  std::multiset<std::string> begins, ends;
  for (const Json& e : trace["traceEvents"]) {
    if (e["name"] == "thread_name") lanes[e["pid"]].insert(e["args"]["name"].get<std::string>());
    if (e["name"] == "process_name") processes[e["pid"]] = e["args"]["name"].get<std::string>();
    if (e["ph"] == "s") begins.insert(e["id"].dump());
    if (e["ph"] == "f") ends.insert(e["id"].dump());
    if (e["ph"] != "X") continue;
    spans[{e["pid"], e["tid"]}].push_back(times(e));
    seen[e["pid"]].insert(e["name"].get<std::string>());
  }
  ASSERT_EQ(processes.size(), 5u);
  for (int r = 0; r < ranks; ++r) {
    EXPECT_EQ(processes[r], fmt::format("rank {} on host-{}", r, r));
    for (const char* lane : {"compute", "copy", "communication"}) EXPECT_EQ(lanes[r].count(lane), 1u) << r << lane;
    for (const char* name : {"step", "forward", "backward", "block_forward", "all_gather", "wait: receive", "send"})
      EXPECT_EQ(seen[r].count(name), 1u) << r << name;
  }
  EXPECT_EQ(processes[ranks].rfind("simulated", 0), 0u);
  EXPECT_EQ(lanes[ranks].size(), 2u) << "a lane a rank of the pipeline";
  EXPECT_EQ((spans[{ranks, 0}].size()), 16u) << "8 forwards and as many backwards";
  EXPECT_EQ(begins, ends) << "each arrow has both of its ends";
  EXPECT_EQ(begins.size(), 32u);
  // A lane's spans lie inside one another or behind one another.
  for (auto& [lane, of] : spans) {
    std::stable_sort(of.begin(), of.end(), [](const Times& a, const Times& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
    });
    std::vector<double> open;
    for (const Times& t : of) {
      while (!open.empty() && open.back() <= t.begin + 0.0005) open.pop_back();
      if (!open.empty()) {
        EXPECT_LE(t.end, open.back() + 0.002) << "process " << lane.first << ", lane " << lane.second;
      }
      open.push_back(t.end);
    }
  }
  ASSERT_EQ(trace["otherData"]["ranks"].size(), 4u);
  for (int r = 0; r < ranks; ++r) {
    const Json& facts = trace["otherData"]["ranks"][static_cast<std::size_t>(r)];
    EXPECT_EQ(facts["rank"], r);
    EXPECT_EQ(facts["forgotten_spans"], 0);
    EXPECT_EQ(facts["clock_ahead_us"], 0.0) << "one machine, one clock";
    EXPECT_GT(facts["exposed_pipeline"].get<double>(), 0);
  }
  EXPECT_EQ(violations(trace), 0);
}

TEST(TraceFile, PutsTheRanksOnOneClock) {
  const Json trace = traced({.ahead = far_ahead});
  EXPECT_EQ(violations(trace), 0);
  for (int r = 1; r < ranks; ++r) {
    const Json& facts = trace["otherData"]["ranks"][static_cast<std::size_t>(r)];
    const double error = facts["clock_error_us"];
    EXPECT_NEAR(facts["clock_ahead_us"].get<double>(), static_cast<double>(far_ahead(r)) * 1e-3, error);
    EXPECT_GT(error, 0);
    EXPECT_LT(error, 10'000);
  }
}

TEST(TraceFile, WithoutTheMeasurementMessagesWouldComeBeforeTheyAreSent) {
  EXPECT_GT(violations(traced({.ahead = far_ahead, .corrected = false})), 10);
}

TEST(RankClock, RunsAtItsOwnSpeed) {
  // 1 ms ahead at first and 3 ms ahead 10 s later.
  const RankClock clock{{1'000'000'000, 1'000'000, 10}, {11'000'000'000, 3'000'000, 20}};
  EXPECT_EQ(clock.on_first(1'000'000'000), 999'000'000);
  EXPECT_EQ(clock.on_first(6'000'000'000), 5'998'000'000);
  EXPECT_EQ(clock.on_first(11'000'000'000), 10'997'000'000);
  EXPECT_EQ(clock.error(), 20);
}

/// What ranks would have done in a step that went as it was simulated.
std::vector<RankActions> as_simulated(const Schedule& schedule, const Simulation& simulation) {
  std::vector<RankActions> measured(schedule.actions.size());
  for (std::size_t r = 0; r < measured.size(); ++r) {
    measured[r].place = static_cast<int>(r);
    for (std::size_t i = 0; i < schedule.actions[r].size(); ++i) {
      const Action& a = schedule.actions[r][i];
      const auto at = [&](double s) { return std::llround(s * 1e9) + 77; };
      measured[r].done.push_back({a.verb, a.pass, at(simulation.spans[r][i].begin), at(simulation.spans[r][i].end)});
    }
  }
  return measured;
}

/// A step that went as its schedule says is simulated as it was; one whose messages came late took longer than that.
TEST(SimulatedStep, DiffersByWhatIsBetweenTheActions) {
  const Recipe recipe = recipe_of();
  const StageMap map = stage_map(recipe);
  const Schedule schedule = schedule_of(recipe, 8);
  const fourmi::Times stages{.stages = {{0.010, 0.012, 0.008}, {0.013, 0.014, 0.009}}};
  for (double transfer : {0.0, 0.005}) {
    fourmi::Times late = stages;
    late.transfer = transfer;
    const Simulation made = simulate(schedule, late);
    std::vector<RankActions> measured = as_simulated(schedule, made);
    // Another replica that began later and took as long changes nothing.
    for (int r : {0, 1}) {
      measured.push_back(measured[static_cast<std::size_t>(r)]);
      measured.back().replica = 1;
      for (Pipeline::Done& d : measured.back().done) d.begin += 1'000'000'000, d.end += 1'000'000'000;
    }
    const SimulatedStep step = simulate_step(recipe, map, measured);
    EXPECT_NEAR(step.measured, made.makespan, 1e-8);
    EXPECT_EQ(step.begin, 77);
    EXPECT_NEAR(step.simulation.makespan, simulate(schedule, stages).makespan, 1e-8);
    EXPECT_NEAR(step.uneven, step.simulation.makespan, 1e-8) << "all is between the actions";
    EXPECT_NEAR(step.measured - step.simulation.makespan, made.makespan - simulate(schedule, stages).makespan, 1e-8);
    if (transfer > 0) {
      EXPECT_GT(step.measured, step.simulation.makespan + 2 * transfer);
    }
  }
}

/// What differs since an action took longer once is told apart from what lies between the actions.
TEST(SimulatedStep, KnowsActionsThatTookUnequalTime) {
  const Recipe recipe = recipe_of();
  const Schedule schedule = schedule_of(recipe, 8);
  fourmi::Times times{.stages = {{0.010, 0.012, 0.008}}};
  for (const auto& list : schedule.actions) {
    times.actions.emplace_back();
    for (std::size_t i = 0; i < list.size(); ++i) times.actions.back().push_back(i % 3 == 0 ? 0.025 : 0.010);
  }
  const SimulatedStep step =
      simulate_step(recipe, stage_map(recipe), as_simulated(schedule, simulate(schedule, times)));
  EXPECT_NEAR(step.uneven, step.measured, 1e-8);
  EXPECT_GT(step.measured, 1.02 * step.simulation.makespan);
}

/// Pairs that were not overlapped are two actions each, that wait for what they need themselves.
TEST(SimulatedStep, PairsInTurn) {
  Recipe recipe = recipe_of();
  recipe.model.num_hidden_layers = 4;
  recipe.parallel.pipeline_schedule = "dualpipev";
  const Schedule schedule = with_pairs_in_turn(schedule_of(recipe, 8));
  const Simulation made = simulate(schedule, {.stages = {{0.010, 0.012, 0.008}, {0.013, 0.012, 0.008}, {}, {}}});
  const SimulatedStep step = simulate_step(recipe, stage_map(recipe), as_simulated(schedule, made));
  EXPECT_NEAR(step.simulation.makespan, made.makespan, 1e-6);
  EXPECT_NEAR(step.uneven, step.measured, 1e-8);
}

TEST(SimulatedStep, KnowsHowMuchShorterPairsWere) {
  Recipe recipe = recipe_of();
  recipe.model.num_hidden_layers = 4;
  recipe.parallel.pipeline_schedule = "dualpipev";
  const StageMap map = stage_map(recipe);
  const Schedule schedule = schedule_of(recipe, 8);
  fourmi::Times times{.stages = {{0.010, 0.012, 0.008}}};
  for (double pair : {1.0, 0.7}) {
    times.pair = pair;
    const Simulation made = simulate(schedule, times);
    const SimulatedStep step = simulate_step(recipe, map, as_simulated(schedule, made));
    EXPECT_NEAR(step.measured, made.makespan, 1e-8);
    EXPECT_NEAR(step.simulation.makespan, made.makespan, 1e-6) << "pairs of " << pair;
  }
}

}  // namespace
}  // namespace fourmi
