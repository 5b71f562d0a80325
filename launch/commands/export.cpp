// fourmi export MODEL HF_DIR [--dtype bf16|fp8-block|fp32]: a checkpoint as a folder that other libraries load. Also
// under mpirun.
#include "framework/interop/export.h"

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "launch/commands.h"
#include "parallel/world.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string model, to, dtype;
  bool json = false;
};

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

void export_folder(const Arguments& a) {
  World world;
  try {
    interop::ExportOptions options;
    using interop::ExportType;
    for (const ExportType type : {ExportType::fp32, ExportType::bf16, ExportType::fp8_block})
      if (a.dtype == interop::name_of(type)) options.type = type;
    options.say = [](const std::string& line) { std::cerr << "fourmi: " << line << "\n"; };
    const interop::ExportReport report = interop::export_model(world.group(), a.model, a.to, options);
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
  c->add_option("MODEL", a->model, "a run directory (its newest proven checkpoint) or a checkpoint")->required();
  c->add_option("HF_DIR", a->to, "a folder that is not there yet")->required();
  c->add_option("--dtype", a->dtype,
                "bf16, fp8-block (blocks of 128 x 128) or fp32; without it as it was imported, "
                "else bf16")
      ->check(CLI::IsMember({"bf16", "fp8-block", "fp32"}));
  c->add_flag("--json", a->json, "one JSON object");
  c->callback([a, &status] {
    export_folder(*a);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
