// fourmi checkpoint list|show|verify MODEL: the checkpoints of a run, one of them in detail, every digest proven.
#include <algorithm>
#include <iostream>

#include "framework/checkpoint/inspect.h"
#include "launch/commands.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string model;
  bool json = false;
};

CLI::App* subcommand(CLI::App& parent, const char* name, const char* text, const std::shared_ptr<Arguments>& a) {
  CLI::App* c = parent.add_subcommand(name, text);
  c->add_option("MODEL", a->model, "a run directory or a checkpoint")->required();
  c->add_flag("--json", a->json, "one JSON object");
  return c;
}

void list(const Arguments& a) {
  const auto reports = inspect(a.model, Proof::listing);
  std::cout << (a.json ? list_json(reports, Proof::listing) : list_text(reports));
}

void show(const Arguments& a) {
  const auto reports = inspect(a.model, Proof::listing);
  if (!reports[0].good()) throw Error(*reports[0].problem);
  std::cout << (a.json ? show_json(reports[0]) : show_text(reports[0]));
}

/// All checkpoints are proven before the first damaged one decides the exit status.
void verify(const Arguments& a) {
  const auto reports = inspect(a.model, Proof::full);
  std::cout << (a.json ? list_json(reports, Proof::full) : verify_text(reports)) << std::flush;
  const auto damaged = std::find_if(reports.begin(), reports.end(), [](const auto& r) { return !r.good(); });
  if (damaged != reports.end()) throw Error(*damaged->problem);
}

}  // namespace

void add_checkpoint(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c = app.add_subcommand("checkpoint", "the checkpoints of a run: list them, show one, prove them");
  c->require_subcommand(1);
  const auto when_called = [&status, a](void (*work)(const Arguments&)) {
    return [&status, a, work] {
      work(*a);
      status = ExitStatus::ok;
    };
  };
  subcommand(*c, "list", "the checkpoints of a run, newest first", a)->callback(when_called(list));
  subcommand(*c, "show", "the newest one, or the one given: its tensors and its state", a)->callback(when_called(show));
  subcommand(*c, "verify", "prove every digest; exit status 4 names the tensor or the file that is damaged", a)
      ->callback(when_called(verify));
}

}  // namespace fourmi
