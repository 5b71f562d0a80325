#include "framework/interop/origin.h"

#include "framework/checkpoint/disk.h"
#include "framework/checkpoint/folder.h"
#include "framework/checkpoint/prove.h"
#include "framework/interop/gguf/model.h"
#include "framework/interop/stored_model.h"
#include "framework/recipe/issue.h"
#include "framework/recipe/read.h"
#include "framework/run/companions.h"
#include "framework/run/start.h"
#include "framework/tokenizer/begin_of_text.h"
#include "framework/tokenizer/choose.h"

namespace fourmi::interop {

namespace fs = std::filesystem;
using recipe::OriginModel;
using recipe::OriginTokenizer;

namespace {

constexpr std::int64_t most_bytes = std::int64_t{1} << 20;  ///< as of any recipe
constexpr const char* name_a_tokenizer = "Name one as data.tokenizer: bytes, or a tokenizer.json";

/// A folder of Hugging Face's whose weights may not be there yet.
bool is_folder_of_config(const fs::path& from) {
  std::error_code ignored;
  return !holds_run(from) && fs::is_regular_file(from / "config.json", ignored);
}

std::string whole_path(const fs::path& path) {
  return fs::absolute(path).lexically_normal().string();
}

/// The run directory, or the checkpoint, that `from` leads to.
fs::path own_folder(const fs::path& from) {
  if (holds_run(from)) return from;
  ModelPath model;
  try {
    model = find_model(from);
  } catch (const Error&) {
    throw Error(
        ExitStatus::input, "model.from",
        fmt::format("found {}, which is no model, expected a run directory, a checkpoint, a Hugging Face folder "
                    "or a GGUF file",
                    from.string()),
        "Name a folder with config.json, or one that `fourmi import` or `fourmi train` made");
  }
  const auto steps = model.single ? std::vector<std::int64_t>() : list_steps(model.folder);
  return steps.empty() ? model.folder : model.folder / step_name(steps.front());
}

OriginModel own_recipe(const fs::path& folder) {
  const fs::path recorded = folder / "recipe.yaml", manifest = folder / "manifest.json";
  if (holds_run(folder)) return {read_text(real_disk(), recorded, most_bytes), recorded.string(), true};
  return {read_manifest(real_disk(), folder).state.recipe, manifest.string(), true};
}

OriginModel model_of(const std::string& from) {
  const auto kind = foreign_kind(from);
  if (kind == ForeignKind::gguf) return {GgufModel(from).config_json(), from + " as config.json", false};
  if (!kind && !is_folder_of_config(from)) return own_recipe(own_folder(from));
  const fs::path config = fs::path(from) / "config.json";
  return {read_text(real_disk(), behind_links(config), most_bytes), config.string(), false};
}

OriginTokenizer tokenizer_of_gguf(const std::string& from) {
  const GgufModel model(from);
  if (!model.header().has("tokenizer.ggml.model"))
    throw Error(ExitStatus::input, from, "found a GGUF file without a vocabulary, expected one for `tokenizer: model`",
                name_a_tokenizer);
  return {from, "", "", begin_of_text_in(model.tokenizer_json(), from)};
}

OriginTokenizer tokenizer_of_folder(const fs::path& from) {
  const fs::path file = from / "tokenizer.json";
  std::error_code ignored;
  if (!fs::exists(file, ignored))
    throw Error(ExitStatus::input, file.string(), "found no such file, expected one for `tokenizer: model`",
                name_a_tokenizer);
  return {whole_path(file), "", "", begin_of_text_in(file)};
}

OriginTokenizer tokenizer_of_run(const fs::path& from) {
  const fs::path folder = own_folder(from), run = run_of(folder);
  const OriginModel own = own_recipe(folder);
  DataSection data;
  bool imported = false;
  try {
    const Recipe recipe = parse_recipe(own.text, own.name);
    data = recipe.data;
    imported = recipe.model.from.empty();  // what else has companions began with somebody's model
  } catch (const RecipeErrors& e) {
    throw Error(ExitStatus::input, own.name, fmt::format("found what is no recorded recipe ({})", e.what()));
  }
  const fs::path theirs = companions_of(run) / "tokenizer.json", kept = run / "tokenizer.json";
  std::error_code ignored;
  if (data.tokenizer == "bytes") {
    if (imported && !run.empty() && fs::exists(theirs, ignored))
      throw Error(ExitStatus::input, theirs.string(),
                  "found a tokenizer that fourmi did not take over when the model was imported, expected one that it "
                  "reads for `tokenizer: model`",
                  name_a_tokenizer);
    return {"bytes", "", "", data.begin_of_text};
  }
  if (!run.empty() && fs::exists(kept, ignored)) data.tokenizer = whole_path(kept);
  return {data.tokenizer, data.tokenizer_sha256, data.end_of_document, data.begin_of_text};
}

OriginTokenizer tokenizer_of(const std::string& from) {
  const auto kind = foreign_kind(from);
  if (kind == ForeignKind::gguf) return tokenizer_of_gguf(from);
  return kind || is_folder_of_config(from) ? tokenizer_of_folder(from) : tokenizer_of_run(from);
}

}  // namespace

recipe::Origins origins() {
  return {model_of, tokenizer_of};
}

VocabularyFiles::VocabularyFiles(DataSection& data, const fs::path& run) {
  std::error_code ignored;
  if (data.tokenizer == "bytes" || foreign_kind(data.tokenizer) != ForeignKind::gguf) return;
  if (!run.empty() && holds_run(run) && fs::exists(run / "tokenizer.json", ignored)) return;
  model_.emplace(data.tokenizer);
  const fs::path file = model_->companions() / "tokenizer.json";
  if (!fs::exists(file, ignored))
    throw Error(ExitStatus::input, "data.tokenizer",
                model_->warnings().empty() ? fmt::format("found no vocabulary in {}, expected one", data.tokenizer)
                                           : model_->warnings().front(),
                name_a_tokenizer);
  data.tokenizer_file = file.string();
}

}  // namespace fourmi::interop
