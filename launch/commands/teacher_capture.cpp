// fourmi teacher capture RECIPE: a teacher's distributions into a cache that students learn from. Also under mpirun.
#include "launch/commands/teacher_capture.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "framework/checkpoint/agree.h"
#include "framework/interop/origin.h"
#include "framework/recipe/read.h"
#include "framework/run/lease.h"
#include "framework/run/machine.h"
#include "framework/run/signals.h"
#include "framework/train/inputs.h"
#include "framework/train/same_launch.h"
#include "framework/train/teacher/capture.h"
#include "framework/train/teacher/open_teacher.h"
#include "launch/build_info.h"
#include "parallel/world.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string recipe;
  std::vector<std::string> overrides;
  bool json = false;
};

void say(const std::string& text) {
  std::cerr << "fourmi: " << text << std::endl;
}

void report(const Arguments& a, const Recipe& recipe, const CaptureSummary& s) {
  const double seconds = std::max(1e-9, s.made.seconds);
  if (a.json) {
    const nlohmann::ordered_json j{{"cache", recipe.distill.cache},
                                   {"complete", s.complete},
                                   {"root", s.root},
                                   {"rows", s.rows},
                                   {"bytes", s.bytes},
                                   {"rows_now", s.made.rows},
                                   {"seconds", s.made.seconds},
                                   {"forward_seconds", s.made.forward_seconds}};
    std::cout << j.dump() << "\n";
    return;
  }
  std::cout << fmt::format("{}: {} positions in {} bytes", recipe.distill.cache, s.rows, s.bytes);
  if (s.made.rows > 0)
    std::cout << fmt::format("; {} of them now, {:.0f} a second, {:.1f}% of the time in the teacher's layers",
                             s.made.rows, static_cast<double>(s.made.rows) / seconds,
                             100 * s.made.forward_seconds / seconds);
  std::cout << (s.complete ? "; root " + s.root : "") << "\n";
}

ExitStatus capture_on_ranks(const Arguments& a, const LaunchInfo& launch, World& world) {
  Group& group = world.group();
  const StopSignals signals;
  Recipe recipe = load_recipe(a.recipe, a.overrides, group.size(), interop::origins());
  agree_launch(recipe, build_info().commit, group);
  std::optional<interop::VocabularyFiles> vocabulary;
  agreed(group, [&] { vocabulary.emplace(recipe.data, ""); });
  agree_tokenizer(recipe.data, "", group);
  agreed(group, [&] { pin_teacher(recipe, true); });
  agree_inputs_open(recipe.data, group);
  std::unique_ptr<Lease> lease;
  agreed(group, [&] {
    if (group.rank() == 0 && !recipe.distill.cache.empty()) lease = Lease::acquire(recipe.distill.cache);
  });
  ThreadPool pool(recipe.run.threads > 0 ? recipe.run.threads
                                         : std::max(1, usable_cores() / std::max(1, launch.local_size)));
  CaptureOptions options;
  options.stop = [] { return StopSignals::requested() != 0; };
  options.say = say;
  options.progress = [](const CaptureProgress& p) {
    say(fmt::format("{} of {} positions, {:.0f} a second", p.rows, p.all_rows,
                    static_cast<double>(p.rows) / p.seconds));
  };
  const CaptureSummary summary = capture(recipe, group, Stream(pool), options);
  if (group.rank() == 0) {
    report(a, recipe, summary);
    if (!summary.complete) say("stopped on request; the same command goes on");
  }
  return summary.complete ? ExitStatus::ok : ExitStatus::stopped;
}

ExitStatus run(const Arguments& a) {
  const LaunchInfo launch = read_launcher();
  World world(launch);
  try {
    return capture_on_ranks(a, launch, world);
  } catch (const Error& error) {
    // As in eval: rank 0 says it, and the others leave it the time.
    if (world.rank() == 0) throw;
    std::this_thread::sleep_for(std::chrono::seconds(2));
    World::end_process(static_cast<int>(error.status()));
  }
}

}  // namespace

void add_teacher_capture(CLI::App& teacher, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c = teacher.add_subcommand(
      "capture", "fills a cache of what a teacher says of the tokens that the recipe's run reads; also under mpirun");
  c->add_option("RECIPE", a->recipe, "a file")->required();
  c->add_option("overrides", a->overrides, "section.key=value ...");
  c->add_flag("--json", a->json, "one JSON object says what was captured");
  c->callback([a, &status] { status = run(*a); });
}

}  // namespace fourmi
