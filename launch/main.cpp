// fourmi: reads the command line and calls a command; turns its result or its error into the exit status.
#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <thread>

#include "kernels/runtime/as_error.h"
#include "launch/build_info.h"
#include "launch/commands.h"
#include "launch/exit_guard.h"
#include "launch/report.h"
#include "parallel/launcher.h"
#include "parallel/world.h"

namespace fourmi {

namespace {

void add_commands(CLI::App& app, ExitStatus& status) {
  add_train(app, status);
  add_validate(app, status);
  add_schema(app, status);
  add_explain(app, status);
  add_generate(app, status);
  add_serve(app, status);
  add_eval(app, status);
  add_checkpoint(app, status);
  add_data(app, status);
  add_bench(app, status);
  add_ledger(app, status);
  add_doctor(app, status);
  add_gpu_check(app, status);
  add_tokenize(app, status);
  add_import(app, status);
  add_export(app, status);
  add_teacher(app, status);
}

/// Results may be lost without a word when standard output is a full disk.
void check_output() {
  std::cout.flush();
  errno = 0;
  if (std::cout && std::fflush(stdout) == 0 && !std::ferror(stdout)) return;
  throw Error(ExitStatus::environment, "standard output",
              fmt::format("writing failed: {}, expected to write all of the result",
                          errno == 0 ? "the output is closed or full" : std::strerror(errno)));
}

ExitStatus run(int argc, char** argv) {
  CLI::App app("Pretrains mixture-of-experts language models from a YAML recipe.", "fourmi");
  app.set_version_flag("--version", version_text(), "version, commit, build, instruction sets, libraries");
  app.require_subcommand(1);
  ExitStatus status = ExitStatus::ok;
  add_commands(app, status);
  app.parse(argc, argv);
  check_output();
  return status;
}

/// A launcher kills all ranks when one has ended with an error: those that are silent leave the first end to the one
/// that speaks.
constexpr std::chrono::seconds time_to_speak{2};

/// Ranks that read the same command line and recipe find the same errors: rank 0 says them. What only another rank met,
/// that rank says.
bool is_mine_to_say(const Error& error) {
  try {
    if (read_launcher().rank == 0) return true;
  } catch (const Error&) {
    return true;
  }
  return error.status() != ExitStatus::usage && error.status() != ExitStatus::rank_lost;
}

}  // namespace

}  // namespace fourmi

int main(int argc, char** argv) {
  using namespace fourmi;
  try {
    const ExitGuard guard;
    return static_cast<int>(run(argc, argv));
  } catch (const std::exception& exception) {
    const auto* own = dynamic_cast<const Error*>(&exception);  // it may be of a kind that prints more
    const Error error = as_error(exception);
    if (is_mine_to_say(error)) {
      print_error(own ? *own : error);
    } else {
      std::this_thread::sleep_for(time_to_speak);
    }
    // Not by return: MPI's exit handlers may wait for a peer that is lost.
    std::cout.flush();
    World::end_process(static_cast<int>(error.status()));
  }
}
