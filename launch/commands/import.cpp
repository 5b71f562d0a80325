// fourmi import HF_DIR|GGUF OUT: a model of other libraries becomes a MODEL of fourmi's. Also under mpirun.
#include "framework/interop/import.h"

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "framework/checkpoint/agree.h"
#include "framework/run/lease.h"
#include "launch/commands.h"
#include "parallel/world.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string from, to;
  bool json = false;
};

void print(const Arguments& a, const interop::ImportReport& r) {
  for (const std::string& w : r.warnings) std::cerr << "fourmi: warning: " << w << "\n";
  if (a.json) {
    nlohmann::ordered_json j;
    j["kind"] = r.kind == interop::ForeignKind::gguf ? "gguf" : "hugging-face";
    j["checkpoint"] = r.checkpoint.string();
    j["root"] = r.root;
    j["model_type"] = r.model_type;
    j["dtype"] = r.dtype;
    j["parameters"] = r.parameters;
    j["bytes_stored"] = r.stored_bytes;
    j["bytes_read"] = r.bytes_read;
    j["files"] = r.files;
    j["files_kept"] = r.files_kept;
    j["was_there"] = r.was_there;
    std::cout << j.dump(2) << "\n";
    return;
  }
  std::cout << fmt::format("{}: {}, {} parameters, stored as {}\n", r.checkpoint.string(), r.model_type, r.parameters,
                           r.dtype);
  if (r.was_there)
    std::cout << "it was there: nothing was left to do\n";
  else
    std::cout << fmt::format("read {} of {} bytes; {} files, {} of them from an earlier try\n", r.bytes_read,
                             r.stored_bytes, r.files, r.files_kept);
}

void import_on_ranks(const Arguments& a, World& world) {
  Group& group = world.group();
  std::unique_ptr<Lease> lease;
  agreed(group, [&] {
    const auto kind = interop::foreign_kind(a.from);
    if (kind && group.rank() == 0) std::cerr << "fourmi: " << a.from << " is " << interop::name_of(*kind) << "\n";
    if (!kind) (void)interop::ForeignModel(a.from);  // says what was looked for, before OUT is made
    if (group.rank() == 0) lease = Lease::acquire(a.to);
  });
  interop::ImportOptions options;
  options.say = [](const std::string& line) { std::cerr << "fourmi: " << line << "\n"; };
  const interop::ImportReport report = interop::import_model(group, a.from, a.to, options);
  if (world.rank() == 0) print(a, report);
}

void import_folder(const Arguments& a) {
  World world;
  try {
    import_on_ranks(a, world);
  } catch (const Error& error) {
    // As in eval: rank 0 says it, and the others leave it the time.
    if (world.rank() == 0) throw;
    std::this_thread::sleep_for(std::chrono::seconds(2));
    World::end_process(static_cast<int>(error.status()));
  }
}

}  // namespace

void add_import(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c = app.add_subcommand("import", "takes a model over from a folder of safetensors or a GGUF file");
  c->add_option("MODEL", a->from, "a folder with config.json and the weights as safetensors, or a GGUF file")
      ->required();
  c->add_option("OUT", a->to, "a new folder, which then is a MODEL; the same command goes on with one that was ended")
      ->required();
  c->add_flag("--json", a->json, "one JSON object");
  c->callback([a, &status] {
    import_folder(*a);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
