#include "framework/interop/export.h"

#include <nlohmann/json.hpp>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/load.h"
#include "framework/digest/file_digest.h"
#include "framework/interop/bytes_tokenizer.h"
#include "framework/interop/companions.h"
#include "framework/interop/config_json.h"
#include "framework/interop/export_files.h"
#include "framework/interop/export_ledger.h"
#include "framework/interop/export_mark.h"
#include "framework/interop/import_plan.h"
#include "framework/interop/model_card.h"
#include "framework/ledger/policy.h"
#include "framework/recipe/obligation.h"
#include "framework/recipe/read.h"
#include "framework/run/start.h"
#include "framework/tokenizer/bytes.h"
#include "framework/tokenizer/choose.h"

namespace fourmi::interop {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

class Export {
 public:
  Export(Group& group, const fs::path& model, const fs::path& to, const ExportOptions& options)
      : group_(group),
        to_(without_slash(fs::absolute(to).lexically_normal())),
        aside_(to_.string() + ".tmp-export"),
        old_(to_.string() + ".old-export"),
        options_(options),
        disk_(*options.disk) {
    mark_.run = run_of(model).empty() ? "" : run_identity(run_of(model));
    agreed(group_, [&] { refuse_what_is_there(); });
    CheckpointChoice choice = open_model(group_, model, disk_);
    report_.warnings = choice.messages;
    checkpoint_ = std::move(*choice.checkpoint);
  }

  ExportReport run() {
    agreed(group_, [&] { plan(); });
    agreed(group_, [&] {
      if (group_.rank() == 0) prepare();
    });
    std::vector<DataFile> mine;
    agreed(group_, [&] {
      for (auto i = static_cast<std::size_t>(group_.rank()); i < files_.size();
           i += static_cast<std::size_t>(group_.size())) {
        report_.bytes_read += write_export_file(disk_, checkpoint_, files_[i], aside_);
        const FileDigest digest = digest_file(aside_ / files_[i].name);  // of what the disk has
        mine.push_back({files_[i].name, digest.bytes, digest.sha256});
        if (group_.rank() == 0) options_.say(fmt::format("{} of {} files", i + 1, files_.size()));
      }
    });
    const std::vector<DataFile> weights = gather(mine);
    agreed(group_, [&] {
      if (group_.rank() == 0) finish(weights);
    });
    group_.all_sum(std::span(&report_.bytes_read, 1));
    return std::move(report_);
  }

 private:
  /// Those of all ranks, at rank 0.
  std::vector<DataFile> gather(const std::vector<DataFile>& mine) {
    json list = json::array();
    for (const DataFile& f : mine) list.push_back({f.path, f.bytes, f.sha256});
    std::vector<DataFile> all;
    for (const std::string& text : gather_texts(group_, list.dump()))
      for (const json& f : json::parse(text)) all.push_back({f[0], f[1], f[2]});
    return all;
  }

  static fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

  void refuse_what_is_there() const { refuse_others(to_, mark_, options_.replace_own); }

  void plan() {
    lineage_ = lineage_of(checkpoint_, run_of(checkpoint_.folder));
    check_export_name(lineage_.trace.teachers, options_.name.empty() ? export_name(to_) : options_.name, to_.string());
    if (!lineage_.problem.empty() && checkpoint_.manifest.state.step > 0)
      report_.warnings.push_back(
          fmt::format("where its tokens came from is not recorded, nor what teachers' terms ask of the export: {}",
                      lineage_.problem));
    recipe_ = parse_recipe(checkpoint_.manifest.state.recipe, (checkpoint_.folder / "manifest.json").string());
    table_ = std::make_unique<ParameterTable>(recipe_.model);
    for (const Parameter& p : table_->all()) {
      const TensorEntry* e = checkpoint_.manifest.find(master_name(p));
      if (!e || e->shape != p.shape || e->dtype != DType::f32)
        throw Error(ExitStatus::input, checkpoint_.folder.string(),
                    fmt::format("tensor {} is missing or not f32 {}, expected it", master_name(p), to_string(p.shape)),
                    "The checkpoint is of another model");
    }
    const json info = json::parse(checkpoint_.manifest.state.info, nullptr, false);
    const json imported = info.is_object() ? info.value("imported", json::object()) : json::object();
    const std::string stored = imported.is_object() ? imported.value("dtype", "") : "";
    type_ = options_.type.value_or(type_after(stored));
    if (type_ == ExportType::bf16 && (!stored.empty() && stored != "bf16" && stored != "fp8-block"))
      report_.warnings.push_back(fmt::format("the model was imported from {}: bf16 rounds its weights", stored));
    files_ = plan_export(recipe_.model, *table_, checkpoint_.manifest, type_, options_.file_bytes);
    report_.folder = to_;
    report_.checkpoint = checkpoint_.folder;
    report_.dtype = name_of(type_);
    report_.files = std::ssize(files_);
    for (const ExportedFile& f : files_) {
      report_.tensors += std::ssize(f.tensors);
      report_.bytes += f.data_bytes();
      for (const ExportedTensor& t : f.tensors) {
        const std::string kept = kept_scales_name(t.parameter->name);
        const TensorEntry* from = checkpoint_.manifest.find(t.is_scale ? kept : master_name(*t.parameter));
        if (from) report_.stored_bytes += from->shape.num_elements() * size_of(from->dtype);
      }
    }
  }

  void prepare() {
    std::error_code failure;
    fs::remove_all(aside_, failure);  // of an earlier try
    if (!failure && look_for_export(to_, mark_) != Found::nothing) fs::remove_all(old_, failure);
    if (!failure) fs::create_directories(aside_, failure);
    if (failure)
      throw Error(ExitStatus::environment, aside_.string(),
                  fmt::format("making the folder failed: {}, expected to write there", failure.message()));
  }

  /// Where the small files are that the model came with: beside an import, or beside the one that the first of the runs
  /// took its weights from.
  fs::path companions() const {
    fs::path run = run_of(checkpoint_.folder);
    std::string from = recipe_.model.from;
    for (int runs = 0; runs < 100; ++runs) {
      std::error_code ignored;
      if (!run.empty() && fs::is_directory(companions_of(run), ignored)) return companions_of(run);
      if (from.empty() || (run = run_of(from)).empty()) break;
      try {
        from = load_recipe(run / "recipe.yaml").model.from;
      } catch (const Error&) {  // a run of another version: what it began with is not known
        from.clear();
      }
    }
    return {};
  }

  void finish(const std::vector<DataFile>& weights) {
    const fs::path from = companions(), run = run_of(checkpoint_.folder);
    if (!from.empty()) copy_companions(from, aside_);
    for (const char* ours : {"config.json", "README.md", export_ledger_name, mark_name}) fs::remove(aside_ / ours);
    SpecialTokens tokens;
    take_tokenizer(run, tokens);
    write("config.json", config_json(recipe_, type_, from.empty() ? from : from / "config.json", tokens));
    if (tokens.are_others) fs::remove(aside_ / "generation_config.json");
    if (!fs::exists(aside_ / "generation_config.json")) write("generation_config.json", generation_config_json(tokens));
    if (files_.size() > 1) write(std::string(index_name), index_text(files_));
    write("recipe.yaml", checkpoint_.manifest.state.recipe);
    write("README.md", model_card(checkpoint_, recipe_, card_facts(checkpoint_, lineage_, run), report_.dtype));
    const CheckpointState& state = checkpoint_.manifest.state;
    mark_.root = checkpoint_.manifest.root, mark_.dtype = report_.dtype;
    mark_.step = state.step, mark_.tokens = state.tokens;
    ExportFact fact{.name = to_.filename().string(),
                    .dtype = mark_.dtype,
                    .root = mark_.root,
                    .run = mark_.run,
                    .step = mark_.step,
                    .tokens = mark_.tokens,
                    .files = files_in(aside_, weights)};
    write(export_ledger_name, export_ledger_text(lineage_, fact, mark_.ledger_head));
    write(mark_name, to_json(mark_));
    sync_directory(disk_, aside_);
    put_in_place();
  }

  void put_in_place() {
    std::error_code ignored;
    refuse_what_is_there();  // once more: writing takes its time
    if (look_for_export(to_, mark_) == Found::nothing)
      fs::remove(to_, ignored);  // an empty folder
    else
      rename_path(disk_, to_, old_);
    rename_path(disk_, aside_, to_);
    sync_directory(disk_, to_.parent_path());
    fs::remove_all(old_, ignored);
  }

  /// The one that the weights know. A base's own files stay where its tokenizer was kept, and go where it was not.
  void take_tokenizer(const fs::path& run, SpecialTokens& tokens) {
    if (recipe_.data.tokenizer == "bytes") {
      // An import without a tokenizer that fourmi reads says bytes as well; its folder knows better.
      if (checkpoint_.manifest.state.step > 0) {
        tokens.begin = tokens.end = ByteTokenizer().end_of_document();
        write_tokenizer(bytes_tokenizer_json(), bytes_end_token, tokens);
      }
      if (!fs::exists(aside_ / "tokenizer.json"))
        report_.warnings.push_back("no tokenizer is known of the model: none is exported");
      return;
    }
    DataSection data = recipe_.data;
    pin_tokenizer(data, run);
    tokens.end = make_tokenizer(data, recipe_.model.vocab_size)->end_of_document();
    if (fs::exists(aside_ / "tokenizer.json") && digest_file(aside_ / "tokenizer.json").sha256 == data.tokenizer_sha256)
      return;
    tokens.begin = tokens.end;
    write_tokenizer(read_text(disk_, data.tokenizer_file, std::int64_t{1} << 30), data.end_of_document, tokens);
  }

  void write_tokenizer(const std::string& text, const std::string& end, SpecialTokens& tokens) {
    tokens.are_others = remove_tokenizer_files(aside_);
    if (tokens.are_others)
      report_.warnings.push_back(
          "the model was trained on with another tokenizer than its base's: that one and its chat template are not "
          "exported");
    write("tokenizer.json", text);
    // A document begins with the token that ends the one before.
    write("tokenizer_config.json", json{{"tokenizer_class", "PreTrainedTokenizerFast"},
                                        {"bos_token", end},
                                        {"eos_token", end},
                                        {"clean_up_tokenization_spaces", false}}
                                           .dump(2) +
                                       "\n");
  }

  void write(const std::string& name, const std::string& text) { write_text(disk_, aside_ / name, text); }

  Group& group_;
  fs::path to_, aside_, old_;
  const ExportOptions& options_;
  Disk& disk_;
  Checkpoint checkpoint_;
  Recipe recipe_;
  std::unique_ptr<ParameterTable> table_;
  ExportType type_ = ExportType::bf16;
  std::vector<ExportedFile> files_;
  KnownLineage lineage_;
  ExportMark mark_;
  ExportReport report_;
};

}  // namespace

ExportReport export_model(Group& group, const fs::path& model, const fs::path& to, const ExportOptions& options) {
  return Export(group, model, to, options).run();
}

}  // namespace fourmi::interop
