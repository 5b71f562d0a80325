// `fourmi train` in which one rank breaks, or waits, as it enters a phase of a step:
//   faulty_fourmi HOW RANK PHASE STEP FOLDER RECIPE [key=value ...]
// HOW: exception (of a type that nobody expects), error (fourmi's own), kill, segv, exit (status 0, without a word),
// wait (until FOLDER/go_on exists). STEP: the first time that PHASE is entered at this step or later. The rank puts
// FOLDER/reached there first, so that a test knows when.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "framework/recipe/read.h"
#include "launch/report.h"
#include "launch/training.h"
#include "parallel/launcher.h"
#include "parallel/world.h"

namespace {

namespace fs = std::filesystem;

struct Fault {
  std::string how, phase;
  int rank = 0;
  std::int64_t step = 0;
  fs::path folder;
  bool done = false;

  void at(fourmi::Phase entered, std::int64_t entered_step) {
    if (done || fourmi::name_of(entered) != phase || entered_step < step) return;
    done = true;
    std::ofstream(folder / "reached.aside") << ::getpid() << "\n";
    fs::rename(folder / "reached.aside", folder / "reached");
    happen();
  }

 private:
  void happen() const {
    if (how == "exception") throw std::logic_error("a fault of the test");
    if (how == "error")
      throw fourmi::Error(fourmi::ExitStatus::input, "a place", "a fault was found, none was expected", "None");
    if (how == "kill") ::raise(SIGKILL);
    if (how == "segv") *static_cast<volatile int*>(nullptr) = 0;
    if (how == "exit") ::_exit(0);
    while (!fs::exists(folder / "go_on")) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
};

int train(const std::vector<std::string>& words) {
  const fourmi::LaunchInfo launch = fourmi::read_launcher();
  Fault fault{.how = words.at(0),
              .phase = words.at(2),
              .rank = std::stoi(words.at(1)),
              .step = std::stoll(words.at(3)),
              .folder = words.at(4)};
  const fourmi::Recipe recipe = fourmi::load_recipe(words.at(5), {words.begin() + 6, words.end()}, launch.size);
  fourmi::TrainingArguments arguments;
  arguments.command = "faulty_fourmi";
  if (launch.rank == fault.rank)
    arguments.observer = [&fault](fourmi::Phase phase, std::int64_t step) { fault.at(phase, step); };
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
