// fourmi data held-out RECIPE: the bytes that a recipe holds out, for comparison with other tools.
// fourmi data show RECIPE: its first samples as a person can read them.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "framework/data/sources.h"
#include "framework/interop/origin.h"
#include "framework/recipe/read.h"
#include "framework/tokenizer/choose.h"
#include "launch/commands.h"
#include "launch/commands/data_show.h"

namespace fourmi {
namespace {

struct Arguments {
  std::string recipe;
  std::vector<std::string> overrides;
  std::int64_t samples = 5;
  bool json = false, colours = false;
};

/// A recipe with its tokenizer at hand.
struct Opened {
  explicit Opened(const Arguments& a)
      : recipe(load_recipe(a.recipe, a.overrides, 0, interop::origins())), files(recipe.data, recipe.run.directory) {
    pin_tokenizer(recipe.data, recipe.run.directory);
  }
  Recipe recipe;
  interop::VocabularyFiles files;
};

void write_held_out(const Arguments& a) {
  const Opened opened(a);
  const Recipe& recipe = opened.recipe;
  const DataSection& data = recipe.data;
  const bool files = !data.validation.empty();
  if (!files && data.holdout == 0)
    throw Error(ExitStatus::usage, "data.validation", "nothing is held out, a share or files were expected");
  const auto tokenizer = make_tokenizer(data, recipe.model.vocab_size);
  const std::string list = files ? "data.validation" : "data.train";
  for (const LoadedSource& source : load_sources(files ? data.validation : data.train, list)) {
    if (source.synthetic()) continue;  // no bytes
    if (source.chat)
      throw Error(ExitStatus::usage, list + "." + source.recipe.name,
                  "conversations, of which a part is learned, a source of texts was expected",
                  "`fourmi data show` prints them.");
    const Documents documents = documents_of(source, files ? Side::train : Side::held_out, files ? 0 : data.holdout,
                                             *tokenizer, recipe.model.vocab_size, list + "." + source.recipe.name);
    std::vector<std::int32_t> ids;
    for (const TextPiece& piece : documents.pieces) {
      ids.resize(static_cast<std::size_t>(piece.end - piece.begin));
      documents.store->read(piece.begin, ids);
      std::cout << tokenizer->decode(ids);
    }
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
  CLI::App* show = data->add_subcommand("show", "the first samples, decoded, with masks, sources and documents");
  for (CLI::App* command : {held_out, show}) {
    command->add_option("RECIPE", a->recipe, "a recipe file")->required();
    command->add_option("OVERRIDES", a->overrides, "section.key=value ...");
  }
  show->add_option("-n,--samples", a->samples, "how many")->check(CLI::Range(0, 1000000))->capture_default_str();
  show->add_flag("--json", a->json, "one JSON object");
  show->add_flag("--color", a->colours, "colours even where standard output is no terminal");
  show->callback([a, &status] {
    show_data(Opened(*a).recipe, a->samples, a->json, a->colours);
    status = ExitStatus::ok;
  });
  held_out->callback([a, &status] {
    write_held_out(*a);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
