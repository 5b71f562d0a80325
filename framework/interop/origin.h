// What a recipe takes from the model that `model.from` names: an architecture, and with `data.tokenizer: model` a
// tokenizer, both as `fourmi import` would write them. Only small files and headers are read: weights when a run
// begins.
//
//   const Recipe recipe = load_recipe("tune.yaml", overrides, ranks, origins());
//   const VocabularyFiles files(recipe.data, recipe.run.directory);  // before pin_tokenizer
#pragma once

#include <filesystem>
#include <optional>

#include "framework/interop/foreign_model.h"
#include "framework/recipe/origin.h"

namespace fourmi::interop {

/// Of a run directory, a checkpoint, a Hugging Face folder (its config.json is enough) or a GGUF file.
recipe::Origins origins();

/// The tokenizer.json of a vocabulary that is inside a GGUF file. A recipe names the file as data.tokenizer; here it is
/// made, with what the file says of chat, in a temporary folder that is gone with this, and data.tokenizer_file leads
/// there. A run that keeps its copy has no need of it: nothing is made.
class VocabularyFiles {
 public:
  /// `run`: the run's directory, which need not be there; empty: none. Throws Error(input) naming the file if it has no
  /// vocabulary that fourmi reads.
  VocabularyFiles(DataSection& data, const std::filesystem::path& run);

 private:
  std::optional<ForeignModel> model_;
};

}  // namespace fourmi::interop
