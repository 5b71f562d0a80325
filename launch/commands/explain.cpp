// fourmi explain [KEY]: what a key of the recipe means; without a key, all of them as docs/recipe.md.
#include "framework/recipe/explain.h"

#include <cstdio>
#include <memory>

#include "launch/commands.h"

namespace fourmi {

void add_explain(CLI::App& app, ExitStatus& status) {
  struct Options {
    std::string key;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("explain", "what a key of the recipe means: type, unit, default, class");
  command->add_option("KEY", options->key,
                      "a key, a section, or the name that another stack has for it; without one, all keys");
  command->add_flag("--json", options->json, "one JSON object");
  command->callback([options, &status] {
    if (options->json && options->key.empty()) {
      throw Error(ExitStatus::usage, "explain", "found --json without a key, expected `fourmi explain KEY --json`",
                  "`fourmi schema` prints all keys as JSON");
    }
    const std::string text = options->key.empty() ? recipe_page()
                             : options->json      ? explain_key_json(options->key) + "\n"
                                                  : explain_key(options->key);
    std::fputs(text.c_str(), stdout);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
