// A recipe is any text that a person or a program wrote: it is refused with places, or it is a recipe that writes and
// reads back as itself.
#include "framework/recipe/read.h"
#include "framework/recipe/write.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fourmi;
  const std::string text(reinterpret_cast<const char*>(data), size);
  Recipe recipe;
  if (!fuzz::accepted([&] { recipe = parse_recipe(text, "fuzz.yaml"); }, {ExitStatus::usage, ExitStatus::input}))
    return 0;
  const std::string written = to_yaml(recipe);
  fuzz::require(parse_recipe(written, "again.yaml") == recipe,
                "a recipe that was written does not read back as itself");
  return 0;
}
