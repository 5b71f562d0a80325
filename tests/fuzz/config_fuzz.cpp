// A config.json that lies: refused with a place, or an architecture that is the same when it is written as a
// config.json again.
#include <string>

#include "framework/interop/config_json.h"
#include "framework/interop/model_recipe.h"
#include "tests/fuzz/folder.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace fourmi;

std::string path(const char* name) {
  return fuzz::folder() + "/" + name;
}

ModelSection model_of(const Recipe& recipe) {
  ModelSection model = recipe.model;
  model.config.clear(), model.from.clear();
  return model;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fourmi::interop;
  fuzz::write_file(path("config.json"), {reinterpret_cast<const char*>(data), size});
  bool blocks = false;
  fuzz::accepted([&] { blocks = has_fp8_blocks(path("config.json")); }, {ExitStatus::input});
  Recipe recipe;
  if (!fuzz::accepted([&] { recipe = model_recipe(path("config.json"), {.name = "fuzzed"}); },
                      {ExitStatus::input, ExitStatus::usage}))
    return 0;
  for (const std::string& original : {std::string(), path("config.json")}) {
    fuzz::write_file(path("again.json"), config_json(recipe, blocks ? ExportType::fp8_block : ExportType::bf16,
                                                     original, {.begin = 1, .end = 2}));
    fuzz::require(model_of(model_recipe(path("again.json"), {.name = "again"})) == model_of(recipe),
                  "a config.json that was written says another architecture");
    fuzz::require(has_fp8_blocks(path("again.json")) == blocks, "weights that are said to be stored otherwise");
  }
  return 0;
}
