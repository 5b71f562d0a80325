#include "framework/interop/import.h"

#include <nlohmann/json.hpp>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/commit.h"
#include "framework/checkpoint/folder.h"
#include "framework/checkpoint/prove.h"
#include "framework/digest/file_digest.h"
#include "framework/digest/sha256.h"
#include "framework/interop/companions.h"
#include "framework/interop/export_ledger.h"
#include "framework/interop/import_files.h"
#include "framework/interop/model_recipe.h"
#include "framework/ledger/import_fact.h"
#include "framework/ledger/lineage.h"
#include "framework/recipe/write.h"
#include "framework/tokenizer/choose.h"

namespace fourmi::interop {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* nonce = "import";

class Import {
 public:
  Import(Group& group, const fs::path& from, const fs::path& to, const ImportOptions& options)
      : group_(group),
        from_(from),
        to_(to),
        called_(fs::absolute(options.called.empty() ? to : options.called).lexically_normal()),
        options_(options),
        disk_(*options.disk) {}

  ImportReport run() {
    agreed(group_, [&] { open(); });
    if (report_.was_there) return std::move(report_);
    agreed(group_, [&] {
      if (group_.rank() == 0) prepare();
    });
    std::vector<RankFile> files = write_files(group_, *plan_, unfinished_, disk_, report_.files_kept, [&](auto i) {
      if (group_.rank() == 0) options_.say(fmt::format("{} of {} files", i + 1, plan_->files().size()));
    });
    agreed(group_, [&] {
      if (group_.rank() == 0) finish(files);
    });
    std::int64_t read = model_->weights().bytes_read();
    group_.all_sum(std::span(&read, 1));
    report_.bytes_read = read;
    return std::move(report_);
  }

 private:
  void open() {
    model_.emplace(from_, disk_);
    const bool blocks = has_fp8_blocks(model_->companions() / "config.json");
    std::string name = called_.filename().string();
    if (name.empty()) name = called_.parent_path().filename().string();
    recipe_ = model_->recipe(name);
    plan_.emplace(recipe_.model, model_->weights(), options_.file_bytes);
    if (plan_->has_fp8() && !blocks)
      throw Error(ExitStatus::input, (from_ / "config.json").string(),
                  "found weights in F8_E4M3 but no quantization_config, expected one of blocks of [128, 128]");
    report_.kind = model_->kind();
    report_.warnings = model_->warnings();
    report_.dtype = model_->dtype(plan_->map());
    if (report_.dtype == "fp32") recipe_.precision.compute = Compute::fp32;
    report_.model_type = recipe_.model.model_type;
    report_.stored_bytes = model_->weights().bytes();
    report_.files = std::ssize(plan_->files());
    for (const Parameter& p : plan_->table().all())
      if (p.set != ParameterSet::router_bias) report_.parameters += p.shape.num_elements();
    checkpoints_ = to_ / "checkpoints";
    report_.checkpoint = checkpoints_ / step_name(0);
    unfinished_ = report_.checkpoint.string() + ".tmp-" + nonce;
    look_for_earlier();
    if (!report_.was_there) take_lineage();
  }

  /// Of a folder that fourmi exported, if its weights are what it was exported with.
  void take_lineage() {
    if (model_->kind() != ForeignKind::hugging_face || !has_export_ledger(model_->path())) return;
    exported_ = read_export_ledger(model_->path());
    std::vector<DataFile> weights, others;
    for (const DataFile& f : exported_->fact.files) (f.path.ends_with(".safetensors") ? weights : others).push_back(f);
    const std::string place = (model_->path() / export_ledger_name).string();
    const std::string remedy = "Bring the weights back; or remove " + place +
                               ": they are then another program's, of which nothing is recorded";
    for (const fs::path& part : model_->weights().parts()) {
      const auto is_it = [&](const DataFile& f) { return f.path == part.filename().string(); };
      if (part.extension() == ".safetensors" && std::none_of(weights.begin(), weights.end(), is_it))
        throw Error(ExitStatus::input, part.string(),
                    "found weights that were not exported, expected those of " + place, remedy);
    }
    try {
      for (auto i = static_cast<std::size_t>(group_.rank()); i < weights.size();
           i += static_cast<std::size_t>(group_.size()))
        prove_files(model_->path(), {weights[i]});
    } catch (const Error& e) {
      throw Error(e.status(), e.place(), e.cause(), remedy);
    }
    if (group_.rank() != 0) return;
    for (const DataFile& f : others) {
      try {
        prove_files(model_->path(), {f});
      } catch (const Error& e) {
        report_.warnings.push_back(fmt::format("{} was changed since the export: {}", f.path, e.cause()));
      }
    }
  }

  void look_for_earlier() {
    const auto other = [&](const std::string& found) {
      throw Error(ExitStatus::usage, to_.string(), found + ", expected a new folder, or this import", "Name another");
    };
    for (const std::int64_t step : list_steps(checkpoints_))
      if (step != 0) other(fmt::format("found a run with a checkpoint of step {}", step));
    std::error_code ignored;
    if (!fs::exists(report_.checkpoint, ignored)) return;
    const Manifest m = read_manifest(disk_, report_.checkpoint);
    const json info = json::parse(m.state.info, nullptr, false);
    if (!info.is_object() || !info.contains("imported") || info["imported"].value("import", "") != plan_->fingerprint())
      other("found another model");
    report_.was_there = true;
    report_.root = m.root;
  }

  void prepare() {
    for (const fs::path& folder : {to_, checkpoints_, unfinished_}) {
      std::error_code failure;
      fs::create_directories(folder, failure);
      if (failure)
        throw Error(ExitStatus::environment, folder.string(),
                    fmt::format("making the folder failed: {}, expected to write there", failure.message()));
    }
  }

  void finish(const std::vector<RankFile>& files) {
    prove_copies(*plan_, model_->weights(), files);
    copy_companions(model_->companions(), companions_of(to_));
    keep_tokenizer(recipe_.data, to_);
    if (model_->kind() == ForeignKind::gguf && recipe_.data.tokenizer != "bytes")  // its file is gone with the import
      recipe_.data.tokenizer = (called_ / "tokenizer.json").string();
    CheckpointState state;
    state.recipe = to_yaml(recipe_);
    state.info = json{{"imported",
                       {{"import", plan_->fingerprint()},
                        {"path", fs::absolute(from_).lexically_normal().string()},
                        {"dtype", report_.dtype}}}}
                     .dump();
    Manifest manifest = merge(files, state);
    manifest.state.ledger_head = enter_ledger(manifest);
    const fs::path recipe = to_ / "recipe.yaml", aside = to_ / "recipe.yaml.tmp";
    std::error_code ignored;
    for (const fs::path& left : {aside, unfinished_ / "manifest.json"}) fs::remove(left, ignored);  // of an ended try
    write_text(disk_, aside, state.recipe);
    rename_path(disk_, aside, recipe);
    remove_notes(*plan_, unfinished_);
    commit(disk_, manifest, unfinished_, report_.checkpoint, nonce);
    for (const std::string& warning : tidy_up(disk_, checkpoints_, 0, 1, 0, nonce)) report_.warnings.push_back(warning);
    report_.root = manifest.root;
  }

  std::string enter_ledger(const Manifest& manifest) {
    LedgerWriter writer(to_ / "ledger.jsonl");
    const std::string run =
        to_payload(RunFact{recipe_.run.name, sha256(manifest.state.recipe), recipe_.model.model_type});
    if (exported_) {
      writer.append({exported_->ledger.entries().begin(), exported_->ledger.entries().end()});
      RunLineage lineage(writer, exported_->head);
      lineage.say(model_from_type, to_payload(OriginFact{model_->path().string(), exported_->fact.root,
                                                         exported_->fact.step, exported_->fact.tokens}));
      lineage.say(RunFact::type, run);
      lineage.snapshot();
      return lineage.seal(manifest.root, 0);
    }
    RunLineage lineage(writer, "");
    lineage.say(RunFact::type, run);
    ImportFact fact{model_->path().string(), model_->license(), report_.dtype, report_.stored_bytes, {}, {}};
    if (model_->kind() == ForeignKind::gguf) {
      fact.name = model_->name();
      fact.sha256 = digest_file(model_->path()).sha256;
    }
    lineage.say(ImportFact::type, to_payload(fact));
    lineage.snapshot();
    return lineage.seal(manifest.root, 0);
  }

  Group& group_;
  fs::path from_, to_, called_, checkpoints_, unfinished_;
  const ImportOptions& options_;
  Disk& disk_;
  Recipe recipe_;
  std::optional<ForeignModel> model_;
  std::optional<ImportPlan> plan_;
  std::optional<ExportedLedger> exported_;  // what it was imported from
  ImportReport report_;
};

}  // namespace

ImportReport import_model(Group& group, const fs::path& from, const fs::path& to, const ImportOptions& options) {
  return Import(group, from, to, options).run();
}

}  // namespace fourmi::interop
