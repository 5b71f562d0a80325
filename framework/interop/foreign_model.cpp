#include "framework/interop/foreign_model.h"

#include <algorithm>
#include <fstream>

#include "framework/interop/companions.h"
#include "framework/interop/gguf/source.h"
#include "framework/interop/model_recipe.h"
#include "framework/interop/stored_model.h"
#include "framework/recipe/issue.h"
#include "framework/tokenizer/begin_of_text.h"
#include "framework/tokenizer/choose.h"

namespace fourmi::interop {

namespace fs = std::filesystem;

namespace {

/// A folder of its own for files that programs want as files.
fs::path scratch_folder() {
  std::error_code failure;
  std::string name = (fs::temp_directory_path(failure) / "fourmi-model-XXXXXX").string();
  if (failure || !mkdtemp(name.data()))
    throw Error(ExitStatus::environment, name, "making a temporary folder failed, expected room for one",
                "Set TMPDIR to a folder that can be written to");
  return name;
}

ForeignKind kind_of(const fs::path& path) {
  if (const auto kind = foreign_kind(path)) return *kind;
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored), there = fs::exists(path, ignored);
  throw Error(ExitStatus::input, path.string(),
              folder  ? fmt::format("found a folder without config.json beside {} or {}, expected them",
                                    single_file_name, index_name)
              : there ? "found a file that is no GGUF, expected one or a folder of a model as safetensors"
                      : "found nothing, expected a folder of a model as safetensors, or a GGUF file");
}

}  // namespace

std::optional<ForeignKind> foreign_kind(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    const bool weights = fs::exists(path / single_file_name, ignored) || fs::exists(path / index_name, ignored);
    if (weights && fs::exists(path / "config.json", ignored)) return ForeignKind::hugging_face;
    return std::nullopt;
  }
  if (!fs::is_regular_file(path, ignored)) return std::nullopt;
  char first[4] = {};
  std::ifstream(path, std::ios::binary).read(first, 4);
  return std::string_view(first, 4) == "GGUF" ? std::optional(ForeignKind::gguf) : std::nullopt;
}

std::string_view name_of(ForeignKind kind) {
  return kind == ForeignKind::gguf ? "a GGUF file" : "a Hugging Face folder";
}

ForeignModel::ForeignModel(const fs::path& path, Disk& disk)
    : kind_(kind_of(path)), path_(fs::absolute(path).lexically_normal()) {
  if (kind_ == ForeignKind::hugging_face) {
    companions_ = path_;
    weights_ = std::make_unique<StoredModel>(path, disk);
    return;
  }
  auto gguf = std::make_unique<GgufSource>(path_);
  gguf_ = gguf.get();
  weights_ = std::move(gguf);
  const auto files = gguf_companions(gguf_->model(), warnings_);
  companions_ = scratch_folder();
  for (const auto& [name, text] : files) {
    std::ofstream out(companions_ / name, std::ios::binary);
    if (!(out << text << std::flush))
      throw Error(ExitStatus::environment, (companions_ / name).string(), "writing it failed, expected room for it");
  }
}

ForeignModel::~ForeignModel() {
  std::error_code ignored;
  if (gguf_) fs::remove_all(companions_, ignored);
}

Recipe ForeignModel::recipe(const std::string& name) {
  Recipe recipe;
  try {
    recipe = model_recipe(companions_ / "config.json", {.name = name});
  } catch (const RecipeErrors& e) {
    if (!gguf_) throw;
    throw Error(ExitStatus::input, path_.string(), fmt::format("the model that it holds is not built ({})", e.what()));
  }
  if (gguf_) recipe.model.config = path_.string();
  std::error_code ignored;
  const fs::path tokenizer = companions_ / "tokenizer.json";
  if (!fs::exists(tokenizer, ignored)) {
    if (warnings_.empty())
      warnings_.push_back(
          fmt::format("{} has no {}: text is taken as bytes", path_.string(), gguf_ ? "vocabulary" : "tokenizer.json"));
    return recipe;
  }
  DataSection data = recipe.data;
  data.tokenizer = fs::absolute(tokenizer).lexically_normal().string();
  try {
    pin_tokenizer(data, {});
    data.begin_of_text = begin_of_text_in(data.tokenizer);
    recipe.data = data;
  } catch (const Error& e) {
    warnings_.push_back(fmt::format("the tokenizer is not taken over, text is taken as bytes: {}", e.what()));
  }
  return recipe;
}

std::string ForeignModel::license() const {
  return gguf_ ? gguf_->model().header().get_or<std::string>("general.license", "") : license_of_card(companions_);
}

std::string ForeignModel::name() const {
  return gguf_ ? gguf_->model().header().get_or<std::string>("general.name", "") : "";
}

std::string ForeignModel::dtype(const WeightMap& map) const {
  bool f32 = false, f16 = false, fp8 = false, blocks = false;
  for (const Weight& w : map.weights) {
    if (w.parameter->set == ParameterSet::router_bias) continue;  // FP32 in every release
    if (gguf_ && w.stored->tensor.shape.rank == 1) continue;      // and vectors in every such file
    const StoredType type = w.stored->tensor.type;
    f32 |= type == StoredType::f32;
    f16 |= type == StoredType::f16;
    blocks |= type == StoredType::blocks;
    fp8 |= w.scale != nullptr;
  }
  if (blocks) return gguf_->most_used_type();
  return fp8 ? "fp8-block" : f32 ? "fp32" : f16 ? "f16" : "bf16";
}

}  // namespace fourmi::interop
