// fourmi data held-out RECIPE: the bytes that a recipe holds out, for comparison with other tools.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "framework/data/held_out.h"
#include "framework/data/loader.h"
#include "framework/recipe/read.h"
#include "launch/commands.h"

namespace fourmi {
namespace {

struct Arguments {
  std::string recipe;
  std::vector<std::string> overrides;
};

void write_held_out(const Arguments& a) {
  const DataSection data = load_recipe(a.recipe, a.overrides).data;
  const bool files = !data.validation.empty();
  if (!files && data.holdout == 0)
    throw Error(ExitStatus::usage, "data.validation", "nothing is held out, a share or files were expected");
  for (const LoadedSource& source :
       load_sources(files ? data.validation : data.train, files ? "data.validation" : "data.train")) {
    if (source.text == nullptr) continue;  // synthetic: no bytes
    std::cout << (files ? source.text->bytes
                        : held_out_bytes(*source.text, data.holdout, "data.train." + source.recipe.name));
  }
  std::cout.flush();
  if (!std::cout)
    throw Error(ExitStatus::environment, "standard output", "a write error, room for the held-out bytes was expected");
}

}  // namespace

void add_data(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* data = app.add_subcommand("data", "what a recipe reads");
  data->require_subcommand(1);
  CLI::App* held_out = data->add_subcommand("held-out", "writes the held-out bytes to standard output");
  held_out->add_option("RECIPE", a->recipe, "a recipe file")->required();
  held_out->add_option("OVERRIDES", a->overrides, "section.key=value ...");
  held_out->callback([a, &status] {
    write_held_out(*a);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
