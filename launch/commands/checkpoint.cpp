// fourmi checkpoint list|show|verify|diff|view: the checkpoints of a run, one of them in detail, every digest proven;
// what differs between two; whole tensors for other programs.
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/diff.h"
#include "framework/checkpoint/inspect.h"
#include "framework/checkpoint/view.h"
#include "framework/train/guard_state.h"
#include "launch/commands.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string model, other, out;
  std::vector<std::string> tensors;
  bool json = false;
};

/// MODEL proven; what is worth saying of it goes to standard error.
Checkpoint open_proven(const std::string& model) {
  const auto alone = make_self_group("checkpoint");
  CheckpointChoice choice = open_model(*alone, model);
  for (const std::string& m : choice.messages) std::cerr << "fourmi: warning: " << m << "\n";
  return std::move(*choice.checkpoint);
}

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

/// The layers that the guard of eight bits has promoted, as a line; empty without such.
std::string promoted_line(const CheckpointReport& report) {
  const auto training = nlohmann::json::parse(report.manifest->state.training, nullptr, false);
  if (!training.contains("guard")) return {};  // not in the first checkpoints
  std::string text;
  for (const Promotion& p : guard_state_from_json(training["guard"].dump(), report.folder.string()).promoted)
    text += fmt::format("{}{} (by step {})", text.empty() ? "layers in bf16 " : ", ", p.layer, p.step);
  return text.empty() ? text : text + "\n";
}

void show(const Arguments& a) {
  const auto reports = inspect(a.model, Proof::listing);
  if (!reports[0].good()) throw Error(*reports[0].problem);
  std::cout << (a.json ? show_json(reports[0]) : show_text(reports[0], promoted_line(reports[0])));
}

/// All checkpoints are proven before the first damaged one decides the exit status.
void verify(const Arguments& a) {
  const auto reports = inspect(a.model, Proof::full);
  std::cout << (a.json ? list_json(reports, Proof::full) : verify_text(reports)) << std::flush;
  const auto damaged = std::find_if(reports.begin(), reports.end(), [](const auto& r) { return !r.good(); });
  if (damaged != reports.end()) throw Error(*damaged->problem);
}

void diff(const Arguments& a) {
  const CheckpointDifference d = compare_checkpoints(open_proven(a.model), open_proven(a.other));
  std::cout << (a.json ? to_json(d) : to_text(d)) << std::flush;
  if (!d.same())
    throw Error(ExitStatus::input, a.other,
                fmt::format("{} tensors differ{} from {}, expected the same state", d.tensors.size(),
                            d.training_state_differs ? " and the training state" : "", a.model));
}

void view(const Arguments& a) {
  const View v = write_view(open_proven(a.model), a.out, a.tensors);
  if (a.json)
    std::cout << nlohmann::ordered_json{{"path", a.out}, {"tensors", v.num_tensors}, {"bytes", v.bytes}}.dump(2)
              << "\n";
  else
    std::cout << fmt::format("{}: {} tensors, {} bytes\n", a.out, v.num_tensors, v.bytes);
}

}  // namespace

void add_checkpoint(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c = app.add_subcommand("checkpoint", "the checkpoints of a run: list, show, prove, compare, copy out");
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
  CLI::App* d =
      subcommand(*c, "diff", "the tensors that differ between two, and by how much; exit status 4 if any does", a);
  d->add_option("OTHER", a->other, "a run directory or a checkpoint")->required();
  d->callback(when_called(diff));
  CLI::App* v = subcommand(*c, "view", "copy whole tensors into one HDF5 file that stands alone", a);
  v->add_option("OUT", a->out, "the file to make")->required();
  v->add_option("--tensor", a->tensors,
                "only tensors of this name; * and ? stand for any text and any letter; may be repeated");
  v->callback(when_called(view));
}

}  // namespace fourmi
