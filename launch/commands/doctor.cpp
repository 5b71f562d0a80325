// fourmi doctor [FILE ...]: the environment, and what installs what is missing; under mpirun it compares all ranks and
// names the odd one.
#include <iostream>

#include "framework/checkpoint/agree.h"
#include "framework/data/text.h"
#include "framework/interop/origin.h"
#include "framework/recipe/read.h"
#include "framework/run/host.h"
#include "launch/commands.h"
#include "launch/doctor/clock.h"
#include "launch/doctor/examination.h"
#include "launch/doctor/look.h"
#include "launch/report.h"
#include "parallel/world.h"

namespace fourmi {

namespace {

struct Arguments {
  std::vector<std::string> files;
  std::string directory;
  bool json = false;
};

bool is_recipe(const std::string& file) {
  return file.ends_with(".yaml") || file.ends_with(".yml");
}

void look_at_inputs(doctor::Facts& facts, const std::string& path, const char* key) {
  try {
    for (const auto& file : find_files(path, key)) doctor::look_at_file(facts, file);
  } catch (const Error& error) {
    facts.push_back({"file", path, error.cause(), doctor::Agree::must, doctor::Verdict::problem, error.remedy()});
  }
}

/// The recipe itself and every file that it names.
void look_at_recipe(doctor::Facts& facts, const std::string& file, std::string& directory) {
  doctor::look_at_file(facts, file);
  if (facts.back().verdict == doctor::Verdict::problem) return;
  const Recipe recipe = load_recipe(file, {}, 0, interop::origins());
  if (directory.empty()) directory = recipe.run.directory;
  for (const auto* list : {&recipe.data.train, &recipe.data.validation})
    for (const DataSource& source : *list)
      if (!source.path.empty()) look_at_inputs(facts, source.path, "data");
  if (!recipe.model.config.empty()) doctor::look_at_file(facts, recipe.model.config);
}

doctor::Facts facts_of_this_rank(const Arguments& a, const LaunchInfo& launch) {
  doctor::Facts facts, of_files;
  std::string directory = a.directory;
  for (const std::string& file : a.files) {
    if (is_recipe(file))
      look_at_recipe(of_files, file, directory);
    else
      doctor::look_at_file(of_files, file);
  }
  doctor::look_at_build(facts);
  doctor::look_at_system(facts, launch);
  doctor::look_at_processor(facts, launch);
  doctor::look_at_memory(facts, launch);
  doctor::look_at_disk(facts, {.directory = directory.empty() ? "." : directory, .measure = launch.local_rank == 0});
  facts.insert(facts.end(), of_files.begin(), of_files.end());
  return facts;
}

ExitStatus examine_here(const Arguments& a) {
  World world;
  Group& group = world.group();
  doctor::Facts mine;
  agreed(group, [&] { mine = facts_of_this_rank(a, world.launch()); });
  const std::vector<std::string> packed = gather_texts(group, doctor::pack(mine)),
                                 hosts = gather_texts(group, host_name());
  const std::vector<double> clocks = doctor::clock_offsets(group);
  std::int64_t problems = 0;
  doctor::Examination examination;
  if (group.rank() == 0) {
    std::vector<doctor::Facts> ranks;
    for (const std::string& text : packed) ranks.push_back(doctor::unpack(text));
    examination = doctor::examine(ranks, hosts, clocks);
    problems = static_cast<std::int64_t>(examination.num_problems());
    std::cout << (a.json ? doctor::to_json(examination) : doctor::to_text(examination)) << std::flush;
  }
  group.broadcast(std::as_writable_bytes(std::span(&problems, 1)), 0);
  if (problems == 0) return ExitStatus::ok;
  if (group.rank() == 0) {
    const doctor::Complaint& first = examination.complaints.front();
    const std::string more = problems > 1 ? fmt::format(" (and {} more)", problems - 1) : "";
    print_error(Error(ExitStatus::environment, "this environment",
                      fmt::format("found {}{}, expected all that training needs", first.text, more), first.remedy));
  }
  return ExitStatus::environment;
}

}  // namespace

void add_doctor(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c =
      app.add_subcommand("doctor", "looks at the environment; under mpirun compares all ranks and names the odd one");
  c->add_option("FILE", a->files,
                "recipes (and with them their inputs) and other files that all ranks must have alike");
  c->add_option("--directory", a->directory,
                "where runs are to be; without it the recipe's run.directory, or the present folder");
  c->add_flag("--json", a->json, "one JSON object");
  c->callback([a, &status] { status = examine_here(*a); });
}

}  // namespace fourmi
