// fourmi schema: the JSON Schema of recipes.
#include <cstdio>

#include "framework/recipe/explain.h"
#include "launch/commands.h"

namespace fourmi {

void add_schema(CLI::App& app, ExitStatus& status) {
  CLI::App* command = app.add_subcommand("schema", "the JSON Schema of recipes");
  command->callback([&status] {
    std::fputs(recipe_schema().c_str(), stdout);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
