// What a person sees of a run, through the program: TensorBoard, loads of experts, time split, traces, the bar on a
// terminal.
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"
#include "tests/telemetry/event_records.h"

namespace fourmi::testing {
namespace {

using Json = nlohmann::json;

std::vector<Json> json_lines(const std::filesystem::path& path) {
  std::vector<Json> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  return lines;
}

const Words watched{"checkpoint.every=2", "logging.every=2", "logging.expert_load_every=2",
                    "logging.trace_steps=[2, 3]"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

class Telemetry : public Scene {};

TEST_F(Telemetry, ARunThatIsKilledAndResumedIsDrawnOnce) {
  const Result first = run(train("run", 2, with(watched, {"run.steps=5", "checkpoint.every=2"})));
  ASSERT_EQ(first.status, 0) << to_string(first);
  // As if it had been killed before the checkpoint of step 5.
  std::filesystem::remove_all(run_directory("run") / "checkpoints" / "step-00000005");
  const Result second = run(train("run", 2, with(watched, {"run.steps=8"})));
  ASSERT_EQ(second.status, 0) << to_string(second);
  ASSERT_NE(second.errors.find("on from step 4"), std::string::npos) << to_string(second);
  expect_each_step_once(run_directory("run"), 8);

  EXPECT_TRUE(goes_forward(run_directory("run") / "tensorboard"));
  const auto curves = drawn(run_directory("run") / "tensorboard");
  const auto metrics = json_lines(run_directory("run") / "metrics.jsonl");
  ASSERT_EQ(metrics.size(), 8u);
  ASSERT_EQ(curves.at("train/loss").size(), 8u);
  for (const Json& m : metrics)
    for (const char* key : {"loss", "grad_norm", "learning_rate", "loss_mtp"})
      EXPECT_EQ(curves.at(std::string("train/") + key).at(m["step"]), static_cast<float>(m[key].get<double>()))
          << key << m["step"];
  EXPECT_EQ(curves.at("speed/mfu").count(6), 1u);
  EXPECT_EQ(curves.at("speed/mfu").count(7), 0u) << "not every step";

  const auto loads = json_lines(run_directory("run") / "expert_load.jsonl");
  std::vector<int> steps;
  for (const Json& load : loads) {
    steps.push_back(load["step"]);
    ASSERT_EQ(load["layers"].size(), 3u) << "layers 1 and 2, and that of multi-token prediction";
    EXPECT_EQ(load["layers"][0]["layer"], 1);
    EXPECT_EQ(load["layers"][2]["layer"], 3);
    for (const Json& layer : load["layers"]) {
      EXPECT_GE(layer["max_over_mean"], 1.0);
      EXPECT_LE(layer["entropy"], 1.0);
      // Each step moves a bias by at most router_bias_rate.
      EXPECT_LE(layer["bias_max"].get<double>(), 0.01 * load["step"].get<double>() + 1e-6);
      EXPECT_GT(layer["bias_max"].get<double>(), 0.0);
    }
  }
  EXPECT_EQ(steps, (std::vector<int>{2, 4, 6, 8}));
  EXPECT_EQ(curves.at("experts/layer-01/max_over_mean").size(), 4u);
  EXPECT_EQ(curves.at("experts/layer-01/max_over_mean").at(8),
            static_cast<float>(loads[3]["layers"][0]["max_over_mean"].get<double>()));
}

TEST_F(Telemetry, TheTimeSplitAddsUpToTheStep) {
  const Result result = run(train("run", 2, with(watched, {"run.steps=6"})));
  ASSERT_EQ(result.status, 0) << to_string(result);
  double least_other = 1;
  for (const Json& m : json_lines(run_directory("run") / "metrics.jsonl")) {
    double sum = 0;
    for (const auto& [key, value] : m.items())
      if (key.rfind("time_", 0) == 0) sum += value.get<double>();
    EXPECT_NEAR(sum, m["step_seconds"].get<double>(), 0.01 * m["step_seconds"].get<double>() + 2e-5);
    for (const char* work : {"attention", "projections", "experts", "router", "norm", "head", "optimizer", "reduce",
                             "gather", "feed_forward"})
      EXPECT_TRUE(m.contains(std::string("time_") + work)) << work;
    least_other = std::min(least_other, m.value("time_other", 0.0) / sum);
  }
  EXPECT_LT(least_other, 0.25) << "most of a step is named";  // on a busy machine other processes fall into any of them
  EXPECT_EQ(result.lines("time: ").size(), 1u) << to_string(result);
}

TEST_F(Telemetry, OneFileHasAllRanksOfAChosenStep) {
  const Result result = run(train("run", 2, with(watched, {"run.steps=4"})));
  ASSERT_EQ(result.status, 0) << to_string(result);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(run_directory("run") / "traces"))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"step-00000002.json", "step-00000003.json"}));
  std::ifstream in(run_directory("run") / "traces" / "step-00000003.json");
  const Json trace = Json::parse(in);
  std::map<int, std::map<std::string, int>> seen;
  std::map<int, std::pair<double, double>> steps;
  for (const Json& e : trace["traceEvents"]) {
    if (e["ph"] != "X") continue;
    ++seen[e["pid"]][e["name"]];
    const double begin = e["ts"], end = begin + e["dur"].get<double>();
    if (e["name"] == "step") steps[e["pid"]] = {begin, end};
    if (e["pid"] == 2 || steps.count(e["pid"]) == 0) continue;
    EXPECT_LE(end, steps[e["pid"]].second + 0.002) << e.dump();
    EXPECT_GE(begin, steps[e["pid"]].first - 0.002) << e.dump();
  }
  for (int rank : {0, 1}) {
    EXPECT_EQ(seen[rank]["step"], 1);
    EXPECT_EQ(seen[rank]["micro_batch"], 4) << "8 sequences, 2 ranks, one a micro-batch";
    EXPECT_EQ(seen[rank]["block_forward"], 4 * 4) << "3 layers and that of multi-token prediction";
    EXPECT_GT(seen[rank]["wait: all_gather"], 0);
  }
  EXPECT_EQ(seen[2]["forward"], 4) << "simulated";
  EXPECT_LT(std::max(steps[0].first, steps[1].first), std::min(steps[0].second, steps[1].second))
      << "two ranks of one step work at one time";
  EXPECT_EQ(trace["otherData"]["ranks"].size(), 2u);

  const auto metrics = json_lines(run_directory("run") / "metrics.jsonl");
  for (const Json& m : metrics) {
    double kinds = 0;
    for (const auto& [key, value] : m.items())
      if (key.rfind("exposed_", 0) == 0 && key != "exposed_communication") kinds += value.get<double>();
    EXPECT_NEAR(kinds, m["exposed_communication"].get<double>(), 1e-5);
    EXPECT_GT(m["exposed_data"].get<double>(), 0);
    EXPECT_LT(kinds, m["step_seconds"].get<double>());
    EXPECT_EQ(m.contains("simulated_step_seconds"), m["step"] == 2 || m["step"] == 3) << "where there is a trace";
  }
  EXPECT_GT(metrics[2]["simulated_step_seconds"].get<double>(), 0);
  const auto curves = drawn(run_directory("run") / "tensorboard");
  EXPECT_EQ(curves.at("exposed/data").count(4), 1u);
}

TEST_F(Telemetry, WithoutThemNothingIsWritten) {
  const Result result =
      run(train("run", 0, {"run.steps=2", "logging.tensorboard=false", "logging.expert_load_every=0"}));
  ASSERT_EQ(result.status, 0) << to_string(result);
  for (const char* name : {"tensorboard", "traces", "expert_load.jsonl"})
    EXPECT_FALSE(std::filesystem::exists(run_directory("run") / name)) << name;
}

TEST_F(Telemetry, ABranchIsDrawnFromItsBeginning) {
  const Result trunk = run(train("trunk", 0, with(watched, {"run.steps=4"})));
  ASSERT_EQ(trunk.status, 0) << to_string(trunk);
  const Result branch =
      run(train("branch", 0,
                with(watched, {"run.steps=4", "checkpoint.resume=" +
                                                  (run_directory("trunk") / "checkpoints/step-00000002").string()})));
  ASSERT_EQ(branch.status, 0) << to_string(branch);
  EXPECT_EQ(drawn(run_directory("branch") / "tensorboard").at("train/loss"),
            drawn(run_directory("trunk") / "tensorboard").at("train/loss"));
  EXPECT_EQ(json_lines(run_directory("branch") / "expert_load.jsonl").size(), 2u);
}

/// Runs `words` with standard error on a terminal of its own; what it showed.
std::string on_a_terminal(const Words& words, int& status) {
  int terminal = -1;
  winsize size{.ws_row = 24, .ws_col = 100, .ws_xpixel = 0, .ws_ypixel = 0};
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) {
    ::setenv("TERM", "xterm", 1);
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  std::string shown;
  char buffer[4096];
  pollfd ready{terminal, POLLIN, 0};
  while (::poll(&ready, 1, 60'000) > 0) {
    const ssize_t n = ::read(terminal, buffer, sizeof(buffer));
    if (n <= 0) break;
    shown.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(terminal);
  int wait_status = 0;
  ::waitpid(child, &wait_status, 0);
  status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
  return shown;
}

/// What a person has on the screen in the end: control sequences obeyed.
std::vector<std::string> screen(const std::string& shown) {
  std::vector<std::string> lines(1);
  for (std::size_t i = 0; i < shown.size(); ++i) {
    if (shown.compare(i, 4, "\r\033[K") == 0) {
      lines.back().clear();
      i += 3;
    } else if (shown[i] == '\n') {
      lines.emplace_back();
    } else if (shown[i] != '\r') {
      lines.back() += shown[i];
    }
  }
  return lines;
}

TEST_F(Telemetry, TheBarIsForATerminalAloneAndLeavesNothingBehind) {
  int status = -1;
  const std::string shown = on_a_terminal(train("seen", 0, with(watched, {"run.steps=6"})), status);
  EXPECT_EQ(status, 0) << shown;
  EXPECT_NE(shown.find("[===>"), std::string::npos) << "a bar at step 1 of 6: " << shown;
  EXPECT_NE(shown.find("] 6/6 100%"), std::string::npos) << shown;
  for (const std::string& line : screen(shown))
    EXPECT_EQ(line.find("%  loss"), std::string::npos) << "a bar stayed: " << line;
  const Result piped = run(train("piped", 0, with(watched, {"run.steps=6"})));
  EXPECT_EQ(piped.errors.find('\r'), std::string::npos);
  EXPECT_EQ(piped.errors.find('\033'), std::string::npos);
  EXPECT_EQ(text_of(run_directory("seen") / "logs" / "rank-0.log").find('\033'), std::string::npos);
}

TEST_F(Telemetry, AnErrorIsALineOfItsOwnBelowTheBar) {
  int status = -1;
  Words words = faulty({"error", 0, "forward", 3}, "seen", 0, {"run.steps=6"});
  const std::string shown = on_a_terminal(words, status);
  EXPECT_NE(status, 0);
  const std::vector<std::string> lines = screen(shown);
  EXPECT_TRUE(std::any_of(lines.begin(), lines.end(), [](const std::string& l) {
    return l.rfind("fourmi: error: ", 0) == 0;
  })) << shown;
}

}  // namespace
}  // namespace fourmi::testing
