// The folder of a test, with a small recipe's runs in it.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>

#include <string>

#include "tests/end_to_end/run.h"
#include "tests/end_to_end/run_directory.h"

namespace fourmi::testing {

inline const std::string small_recipe = FOURMI_SOURCE_DIR "/tests/end_to_end/small.yaml";

/// A fault for faulty_fourmi.cpp.
struct Fault {
  std::string how = "wait";
  int rank = 0;
  std::string phase = "forward";
  int step = 0;
  std::string later = {};  ///< of several faults: ",9,12", further steps
};

class Scene : public ::testing::Test {
 protected:
  std::filesystem::path folder() const { return folder_.path(); }
  std::filesystem::path run_directory(const std::string& name) const { return folder() / name; }

  Words overrides(const std::string& run, const Words& more) const {
    Words words{"run.directory=" + run_directory(run).string()};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  /// `fourmi train` of the small recipe into the run directory of this name. `ranks` 0: without a launcher.
  Words train(const std::string& run, int ranks, const Words& more = {}) const {
    Words words = overrides(run, more);
    words.insert(words.begin(), {"train", small_recipe});
    return fourmi(std::move(words), ranks);
  }
  Words faulty(const Fault& fault, const std::string& run, int ranks, const Words& more = {}) const {
    Words words = overrides(run, more);
    words.insert(words.begin(), {FAULTY_FOURMI, fault.how, std::to_string(fault.rank), fault.phase,
                                 std::to_string(fault.step) + fault.later, folder().string(), small_recipe});
    return on_ranks(ranks, std::move(words));
  }
  /// Step of the newest committed checkpoint; 0 without one.
  int saved_step(const std::string& run) const {
    int step = 0;
    for (const std::string& name : checkpoint_names(run_directory(run)))
      if (name.size() == 13) step = std::stoi(name.substr(5));  // step-00000004
    return step;
  }
  /// Waits until the faulty rank is there; its process, 0 if it never came. Once: the trace is removed.
  pid_t fault_reached() const {
    const std::filesystem::path trace = folder() / "reached";
    if (!wait_until([&] { return std::filesystem::exists(trace); })) return 0;
    const pid_t process = std::stoi(text_of(trace));
    std::filesystem::remove(trace);
    return process;
  }
  void go_on() const { std::ofstream(folder() / "go_on"); }

  /// Kills all ranks and their launcher while they are in the middle of a step.
  void kill_in(const Fault& fault, const std::string& run, int ranks, const Words& more) const {
    Process job(faulty(fault, run, ranks, more));
    ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(1)));
    job.kill_all();
    EXPECT_EQ(job.wait().status, -SIGKILL);
  }

 private:
  TempFolder folder_;
};

inline void expect_ok(const Result& result) {
  EXPECT_EQ(result.status, 0) << to_string(result);
}

}  // namespace fourmi::testing
