// fourmi validate RECIPE [key=value ...]: every error of a recipe at once. Reads the recipe, its bases, its config.json
// and what it takes from model.from; no MPI, no devices, no data.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "framework/interop/origin.h"
#include "framework/recipe/read.h"
#include "launch/commands.h"

namespace fourmi {
namespace {

struct Options {
  std::string recipe;
  std::vector<std::string> overrides;
  int ranks = 0;
  bool json = false;
};

std::string report(const Options& options, const std::vector<RecipeIssue>& issues) {
  nlohmann::ordered_json json;
  json["recipe"] = options.recipe;
  json["valid"] = issues.empty();
  if (options.ranks > 0) json["ranks"] = options.ranks;
  json["errors"] = nlohmann::ordered_json::array();
  for (const RecipeIssue& issue : issues) {
    json["errors"].push_back(
        {{"place", issue.place}, {"found", issue.found}, {"expected", issue.expected}, {"remedy", issue.remedy}});
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void validate(const Options& options) {
  try {
    const Recipe recipe = load_recipe(options.recipe, options.overrides, options.ranks, interop::origins());
    if (options.json) {
      std::fputs(report(options, {}).c_str(), stdout);
    } else if (options.ranks > 0) {
      fmt::print("{}: valid on {} ranks: {} share the batch, {} sequences a step each\n", options.recipe, options.ranks,
                 data_ranks(recipe.parallel, options.ranks),
                 recipe.data.global_batch_size.at(0) / data_ranks(recipe.parallel, options.ranks));
    } else {
      fmt::print("{}: valid\n", options.recipe);
    }
  } catch (const RecipeErrors& errors) {
    if (options.json) std::fputs(report(options, errors.issues()).c_str(), stdout);
    throw;
  }
}

}  // namespace

void add_validate(CLI::App& app, ExitStatus& status) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("validate", "check a recipe: every error at once, with its place");
  command->add_option("RECIPE", options->recipe, "the recipe, a YAML file")->required();
  command->add_option("OVERRIDES", options->overrides, "section.key=value, checked as in the file");
  command->add_option("--ranks", options->ranks, "also check what depends on this number of ranks")
      ->check(CLI::Range(1, 1000000));
  command->add_flag("--json", options->json, "one JSON object");
  command->callback([options, &status] {
    validate(*options);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
