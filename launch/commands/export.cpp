// fourmi export MODEL HF_DIR [--dtype bf16|fp8-block|fp32]: a checkpoint, or what another program made, as a folder
// that other libraries load. Also under mpirun. With --dry-run RECIPE: what an export of such a model would hold.
#include "framework/interop/export.h"

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "framework/checkpoint/folder.h"
#include "framework/interop/config_json.h"
#include "framework/interop/export_foreign.h"
#include "framework/interop/foreign_model.h"
#include "framework/interop/origin.h"
#include "framework/recipe/read.h"
#include "launch/commands.h"
#include "parallel/world.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string model, to, dtype;
  bool json = false, dry_run = false;

  std::optional<interop::ExportType> type() const {
    using interop::ExportType;
    for (const ExportType t : {ExportType::fp32, ExportType::bf16, ExportType::fp8_block})
      if (dtype == interop::name_of(t)) return t;
    return std::nullopt;
  }
};

void show_plan(const Arguments& a) {
  if (!a.to.empty())
    throw Error(ExitStatus::usage, "fourmi export", "found HF_DIR beside --dry-run, expected a recipe alone");
  const Recipe recipe = load_recipe(a.model, {}, 0, interop::origins());
  const interop::ExportType type = a.type().value_or(recipe.export_.dtype);
  const ParameterTable table(recipe.model);
  const auto files = interop::plan_export(recipe.model, table, {}, type, interop::most_file_bytes);
  nlohmann::json j;  // sorted: an ordered one looks for each name among all
  j["dtype"] = interop::name_of(type);
  j["config"] = nlohmann::json::parse(interop::config_json(recipe, type, {}, {}));
  std::int64_t bytes = 0;
  for (const interop::ExportedFile& f : files) {
    bytes += f.data_bytes();
    for (const interop::ExportedTensor& t : f.tensors) {
      const Shape& shape = t.stored.shape;
      j["tensors"][t.stored.name] = {{"dtype", interop::name_of(t.stored.type)},
                                     {"shape", std::vector(shape.dims.begin(), shape.dims.begin() + shape.rank)},
                                     {"file", f.name}};
    }
  }
  j["bytes"] = bytes;
  if (a.json) {
    std::cout << j.dump(1) << "\n";
    return;
  }
  for (const auto& [name, t] : j["tensors"].items())
    std::cout << fmt::format("{} {} {} {}\n", name, t["dtype"].get<std::string>(), t["shape"].dump(),
                             t["file"].get<std::string>());
  std::cout << fmt::format("{} tensors, {} bytes in {} files, {}\n", j["tensors"].size(), bytes, files.size(),
                           interop::name_of(type));
}

void print(const Arguments& a, const interop::ExportReport& r) {
  for (const std::string& w : r.warnings) std::cerr << "fourmi: warning: " << w << "\n";
  if (a.json) {
    nlohmann::ordered_json j;
    j["folder"] = r.folder.string();
    j["checkpoint"] = r.checkpoint.string();
    j["dtype"] = r.dtype;
    j["tensors"] = r.tensors;
    j["files"] = r.files;
    j["bytes"] = r.bytes;
    j["bytes_stored"] = r.stored_bytes;
    j["bytes_read"] = r.bytes_read;
    std::cout << j.dump(2) << "\n";
    return;
  }
  std::cout << fmt::format("{} from {}: {} tensors, {} bytes in {} files, {}\n", r.folder.string(),
                           r.checkpoint.string(), r.tensors, r.bytes, r.files, r.dtype);
}

/// Of what is no other program's: a run directory or a checkpoint.
void check_is_model(const std::string& model) {
  try {
    find_model(model);
  } catch (const Error& e) {
    throw Error(
        e.status(), model,
        "found no model there, expected a run directory, a checkpoint, a Hugging Face folder (config.json beside "
        "safetensors) or a GGUF file");
  }
}

void export_folder(const Arguments& a) {
  World world;
  try {
    interop::ExportOptions options;
    options.type = a.type();
    options.say = [](const std::string& line) { std::cerr << "fourmi: " << line << "\n"; };
    const auto kind = interop::foreign_kind(a.model);
    if (!kind) check_is_model(a.model);
    if (kind && world.rank() == 0) options.say(a.model + " is " + std::string(interop::name_of(*kind)));
    const interop::ExportReport report = kind ? interop::export_foreign(world.group(), a.model, a.to, options)
                                              : interop::export_model(world.group(), a.model, a.to, options);
    if (world.rank() == 0) print(a, report);
  } catch (const Error& error) {
    // As in eval: rank 0 says it, and the others leave it the time.
    if (world.rank() == 0) throw;
    std::this_thread::sleep_for(std::chrono::seconds(2));
    World::end_process(static_cast<int>(error.status()));
  }
}

}  // namespace

void add_export(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c = app.add_subcommand("export", "writes a model as a folder of safetensors");
  c->add_option("MODEL", a->model,
                "a run directory (its newest proven checkpoint), a checkpoint, a Hugging Face folder or a GGUF file")
      ->required();
  c->add_option("HF_DIR", a->to, "a folder that is not there yet");
  c->add_option("--dtype", a->dtype,
                "bf16, fp8-block (blocks of 128 x 128) or fp32; without it as it was imported, "
                "else bf16")
      ->check(CLI::IsMember({"bf16", "fp8-block", "fp32"}));
  c->add_flag("--json", a->json, "one JSON object");
  c->add_flag("--dry-run", a->dry_run, "MODEL is a recipe: prints names, types and shapes, writes nothing");
  c->callback([a, &status] {
    if (a->dry_run) {
      show_plan(*a);
    } else if (a->to.empty()) {
      throw Error(ExitStatus::usage, "fourmi export", "found no HF_DIR, expected a folder to write");
    } else {
      export_folder(*a);
    }
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
