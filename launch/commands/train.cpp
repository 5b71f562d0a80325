// fourmi train RECIPE [key=value ...]: pretrains as the recipe says, one process a rank; with --dry-run says what it
// would do.
#include <fstream>
#include <iostream>

#include "framework/interop/origin.h"
#include "framework/recipe/read.h"
#include "framework/train/dry_run.h"
#include "framework/train/trainer.h"
#include "launch/commands.h"
#include "launch/training.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string recipe;
  std::vector<std::string> overrides;
  std::string timeline;
  int ranks = 0;
  bool dry_run = false, accept_changes = false, json = false;
};

void write_timeline(const DryRun& run, const std::string& path) {
  if (!run.pipeline)
    throw Error(ExitStatus::usage, "fourmi train --timeline",
                "found a recipe without a pipeline, expected parallel.pipeline of 2 or more");
  std::ofstream file(path);
  file << run.pipeline->timeline_svg;
  if (!file.flush())
    throw Error(ExitStatus::environment, path, "the timeline could not be written, expected a file that can be",
                "Name a file in a folder that exists");
}

void show_dry_run(const Arguments& a, const LaunchInfo& launch) {
  const int ranks = a.ranks > 0 ? a.ranks : launch.under_launcher ? launch.size : 0;
  const Recipe recipe = load_recipe(a.recipe, a.overrides, ranks, interop::origins());
  if (launch.rank != 0) return;
  const DryRun run = dry_run(recipe, ranks);
  for (const std::string& w : run.warnings) std::cerr << "fourmi: warning: " << w << "\n";
  std::cout << (a.json ? to_json(run) + "\n" : to_text(run, recipe));
  if (!a.timeline.empty()) write_timeline(run, a.timeline);
}

ExitStatus train(const Arguments& a) {
  const LaunchInfo launch = read_launcher();
  if (a.dry_run) {
    show_dry_run(a, launch);
    return ExitStatus::ok;
  }
  if (a.json || a.ranks > 0 || !a.timeline.empty())
    throw Error(ExitStatus::usage, "fourmi train",
                "--json, --ranks or --timeline was given without --dry-run, expected them only with it",
                "Start ranks with launch/mpirun -n N fourmi train RECIPE");
  // Before MPI: a wrong recipe ends every rank alike, and nothing waits for anything.
  const Recipe recipe = load_recipe(a.recipe, a.overrides, launch.size, interop::origins());
  require_trainable(recipe);
  std::string words = "fourmi train " + a.recipe;
  for (const std::string& o : a.overrides) words += " " + o;
  if (a.accept_changes) words += " --accept-changes";
  return train_here(recipe, launch, {.accept_changes = a.accept_changes, .command = words, .observer = {}});
}

}  // namespace

void add_train(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c = app.add_subcommand("train", "pretrains a model as a recipe says; under mpirun one process a rank");
  c->add_option("RECIPE", a->recipe, "a recipe file")->required();
  c->add_option("OVERRIDES", a->overrides, "section.key=value, as in the recipe");
  c->add_flag("--accept-changes", a->accept_changes,
              "go on although keys that need asking differ from the run's recipe");
  c->add_flag("--dry-run", a->dry_run, "open inputs, count parameters, work and memory; start nothing");
  c->add_option("--ranks", a->ranks, "with --dry-run: for this many ranks")->check(CLI::PositiveNumber);
  c->add_flag("--json", a->json, "with --dry-run: one JSON object");
  c->add_option("--timeline", a->timeline, "with --dry-run: write the pipeline's timeline to this file, as SVG");
  c->callback([a, &status] { status = train(*a); });
}

}  // namespace fourmi
