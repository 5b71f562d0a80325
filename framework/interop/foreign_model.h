// A model that another program made, whatever it is kept in: a folder of Hugging Face's, or a GGUF file. Weights come
// from it tensor by tensor; the small files beside them (config.json, tokenizer.json, chat template ...) are in a
// folder either way.
//
//   ForeignModel model("SmolLM2.gguf");
//   Recipe recipe = model.recipe("smol");
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/checkpoint/disk.h"
#include "framework/interop/weight_map.h"
#include "framework/recipe/recipe.h"

namespace fourmi::interop {

class GgufSource;
enum class ForeignKind { hugging_face, gguf };

/// By what is there: a regular file with GGUF's first bytes; a folder with config.json and safetensors (or an index of
/// them). Nothing: a run directory, a checkpoint, or what no model is.
std::optional<ForeignKind> foreign_kind(const std::filesystem::path& path);
/// "a Hugging Face folder", "a GGUF file".
std::string_view name_of(ForeignKind kind);

class ForeignModel {
 public:
  /// Throws Error(input) naming what was looked for, or what in a file is not right.
  explicit ForeignModel(const std::filesystem::path& path, Disk& disk = real_disk());
  ~ForeignModel();
  ForeignModel(const ForeignModel&) = delete;
  ForeignModel& operator=(const ForeignModel&) = delete;

  ForeignKind kind() const { return kind_; }
  const std::filesystem::path& path() const { return path_; }  ///< absolute
  const WeightSource& weights() const { return *weights_; }
  /// Where config.json, tokenizer.json ... are: the folder itself; of a GGUF file a folder that is gone with this.
  const std::filesystem::path& companions() const { return companions_; }
  /// What of it is not taken over.
  const std::vector<std::string>& warnings() const { return warnings_; }

  /// As model_recipe(), with its tokenizer pinned where it is one that fourmi reads (else bytes, and a warning). Throws
  /// as model_recipe().
  Recipe recipe(const std::string& name);
  std::string license() const;  ///< as the model card or the file says; empty: neither does
  /// As the file says; empty: it says none.
  std::string name() const;
  /// The widest type among the weights, which rounds nothing away: fp32 f16 bf16 fp8-block; of a GGUF file with blocks
  /// the type that most have (q8_0 q4_1).
  std::string dtype(const WeightMap& map) const;

 private:
  ForeignKind kind_;
  std::filesystem::path path_, companions_;
  std::unique_ptr<WeightSource> weights_;
  const GgufSource* gguf_ = nullptr;  ///< weights_, if it is one
  std::vector<std::string> warnings_;
};

}  // namespace fourmi::interop
