// `fourmi train` in which one rank breaks, or waits, as it enters a phase of a step:
//   faulty_fourmi HOW RANK PHASE STEP FOLDER RECIPE [key=value ...]
// HOW: exception (of a type that nobody expects), error (fourmi's own), kill, segv, exit (status 0, without a word),
// wait (until FOLDER/go_on exists), pause (a second, for what goes on in the background), stop (SIGSTOP), spin (for
// ever, in code of its own), call (of all ranks, which the others do not make); and what spoils numbers (spoil.h).
// STEP: the first time that PHASE is entered at this step or later; of several (3,7,9) each once, in this order; HOW
// and PHASE may be several too, the last one holds for the rest. RANK -1: every rank. The rank puts FOLDER/reached
// there first, so that a test knows when.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "framework/recipe/read.h"
#include "launch/report.h"
#include "launch/training.h"
#include "parallel/launcher.h"
#include "parallel/world.h"
#include "tests/end_to_end/spoil.h"

namespace {

namespace fs = std::filesystem;

struct Fault {
  std::vector<std::string> phases;
  int rank = 0;
  std::vector<std::string> hows;
  std::vector<std::int64_t> steps;
  fs::path folder;
  fourmi::testing::Spoiler spoiler;
  fourmi::Engine* engine = nullptr;
  std::size_t next = 0;

  void at(fourmi::Phase entered, std::int64_t entered_step) {
    spoiler.enter(entered_step);
    if (next == steps.size() || fourmi::name_of(entered) != phases[std::min(next, phases.size() - 1)] ||
        entered_step < steps[next])
      return;
    const std::string how = hows[std::min(next, hows.size() - 1)];
    ++next;
    if (spoiler.spoil(how)) return;
    if (how == "pause") return std::this_thread::sleep_for(std::chrono::seconds(1));
    std::ofstream(folder / "reached.aside") << ::getpid() << "\n";
    fs::rename(folder / "reached.aside", folder / "reached");
    happen(how);
  }

 private:
  void happen(const std::string& how) const {
    if (how == "exception") throw std::logic_error("a fault of the test");
    if (how == "error")
      throw fourmi::Error(fourmi::ExitStatus::input, "a place", "a fault was found, none was expected", "None");
    if (how == "kill") ::raise(SIGKILL);
    if (how == "stop") ::raise(SIGSTOP);
    if (how == "segv") *static_cast<volatile int*>(nullptr) = 0;
    if (how == "exit") ::_exit(0);
    if (how == "call") engine->groups().world().barrier();
    for (volatile bool spin = how == "spin"; spin;) continue;
    while (how == "wait" && !fs::exists(folder / "go_on")) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
};

std::vector<std::string> parts_of(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

int train(const std::vector<std::string>& words) {
  const fourmi::LaunchInfo launch = fourmi::read_launcher();
  Fault fault{.phases = parts_of(words.at(2)),
              .rank = std::stoi(words.at(1)),
              .hows = parts_of(words.at(0)),
              .steps = {},
              .folder = words.at(4),
              .spoiler = {},
              .engine = nullptr};
  for (const std::string& step : parts_of(words.at(3))) fault.steps.push_back(std::stoll(step));
  const fourmi::Recipe recipe = fourmi::load_recipe(words.at(5), {words.begin() + 6, words.end()}, launch.size);
  fourmi::TrainingArguments arguments;
  arguments.command = "faulty_fourmi";
  if (launch.rank == fault.rank || fault.rank < 0) {
    arguments.observer = [&fault](fourmi::Phase phase, std::int64_t step) { fault.at(phase, step); };
    arguments.engine_ready = [&fault](fourmi::Engine& engine) {
      fault.engine = &engine;
      fault.spoiler.set_engine(engine);
    };
  }
  return static_cast<int>(fourmi::train_here(recipe, launch, arguments));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return train({argv + 1, argv + argc});
  } catch (const fourmi::Error& error) {
    fourmi::print_error(error);
    fourmi::World::end_process(static_cast<int>(error.status()));
  }
}
