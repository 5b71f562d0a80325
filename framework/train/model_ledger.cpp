#include "framework/train/model_ledger.h"

#include "framework/capture/cache.h"
#include "framework/checkpoint/folder.h"
#include "framework/checkpoint/inspect.h"
#include "framework/digest/file_digest.h"
#include "framework/interop/foreign_model.h"
#include "framework/run/start.h"
#include "framework/train/provenance.h"

namespace fourmi {

namespace fs = std::filesystem;

ModelLedger open_ledger(const fs::path& model) {
  ModelLedger m;
  if (interop::has_export_ledger(model)) {
    m.exported = interop::read_export_ledger(model);
    m.path = model / interop::export_ledger_name;
    m.checkpoint = model;
    m.head = m.exported->head;
    m.root = m.exported->fact.root;
    m.state.step = m.exported->fact.step;
    m.state.tokens = m.exported->fact.tokens;
    m.ledger = m.exported->ledger;
    return m;
  }
  if (interop::foreign_kind(model))
    throw Error(ExitStatus::input, model.string(),
                fmt::format("found a model without {}, expected a run directory, a checkpoint or a folder that fourmi "
                            "exported",
                            interop::export_ledger_name),
                "Nothing is recorded of what another program made");
  for (const CheckpointReport& report : inspect(model, Proof::listing)) {
    if (!report.manifest) {
      if (report.problem) m.damaged.push_back(*report.problem);
      continue;
    }
    m.checkpoint = report.folder;
    m.state = report.manifest->state;
    m.root = report.manifest->root;
    break;
  }
  if (m.checkpoint.empty())
    throw Error(ExitStatus::input, model.string(), "found no whole manifest, expected a checkpoint",
                "See fourmi checkpoint verify");
  const fs::path run = run_of(m.checkpoint);
  if (run.empty())
    throw Error(ExitStatus::input, m.checkpoint.string(),
                "found a checkpoint outside of a run directory, expected its run's ledger.jsonl",
                "Name it where its run left it");
  m.path = ledger_path(run);
  m.head = m.state.ledger_head;
  if (m.head.empty())
    throw Error(ExitStatus::input, m.checkpoint.string(),
                "the manifest names no ledger entry, expected a checkpoint of a run with a ledger",
                "Go on with the run: its next checkpoint has one");
  std::error_code ignored;
  if (!fs::exists(m.path, ignored))
    throw Error(ExitStatus::input, m.path.string(), "found no ledger, expected the one that the checkpoint names",
                "Restore it from a copy");
  m.ledger = read_ledger(m.path);
  return m;
}

Trace verify_ledger(const ModelLedger& m) {
  const std::string place = m.path.string();
  const char* remedy = "Restore ledger.jsonl from a copy";
  // The lineage first: what is missing from it says more than a line number.
  const Trace t = trace(m.ledger, m.head, place);
  if (!m.ledger.damage().empty()) {
    const LedgerFile::Damage& d = m.ledger.damage().front();
    throw Error(ExitStatus::input, fmt::format("{}:{}", place, d.line), d.what, remedy);
  }
  if (m.exported) return t;  // its head was proven when it was read
  const auto lineage = m.ledger.lineage(m.head, place);
  const bool fits = lineage.back()->type == CheckpointFact::type && t.checkpoint.root == m.root &&
                    t.step == m.state.step && t.run_tokens == m.state.tokens;
  if (!fits)
    throw Error(
        ExitStatus::input, place,
        fmt::format(
            "the head, {}, tells of step {}, {} tokens, root {}, expected step {}, {} tokens, root {} as {} says",
            name_of(*lineage.back()), t.step, t.run_tokens, short_digest(t.checkpoint.root), m.state.step,
            m.state.tokens, short_digest(m.root), m.checkpoint.string()),
        remedy);
  return t;
}

void verify_files(const ModelLedger& m) {
  if (!m.damaged.empty()) throw m.damaged.front();
  if (m.exported) interop::prove_files(m.exported->folder, m.exported->fact.files);
}

void verify_data(const Trace& t) {
  for (const DatasetFact& d : t.datasets)
    for (const DataFile& f : d.files) {
      const FileDigest now = digest_file(f.path);
      if (now.sha256 != f.sha256 || now.bytes != f.bytes)
        throw Error(ExitStatus::input, f.path,
                    fmt::format("found {} bytes with SHA-256 {}, expected {} with {} as source {} was read", now.bytes,
                                now.sha256, f.bytes, f.sha256, d.name),
                    "Bring the file back as it was");
    }
  for (const CaptureFact& c : t.captures) prove_cache(c.path, c.root);
}

std::optional<Trace> lineage_before(const Recipe& recipe) {
  const std::string& resume = recipe.checkpoint.resume;
  fs::path from = recipe.model.from;
  std::error_code ignored;
  if (fs::is_directory(fs::path(recipe.run.directory) / "checkpoints", ignored))
    from = recipe.run.directory;
  else if (resume != "auto" && resume != "never")
    from = resume;
  if (from.empty() || !fs::exists(from, ignored)) return std::nullopt;
  // Another program's model, or as little of one as a dry run needs.
  const bool is_own = fs::is_directory(from / "checkpoints", ignored) || fs::exists(from / "manifest.json", ignored);
  if (!is_own && !interop::has_export_ledger(from)) return std::nullopt;
  if (from == recipe.run.directory && list_steps(from / "checkpoints").empty()) return std::nullopt;
  const ModelLedger m = open_ledger(from);
  return trace(m.ledger, m.head, m.path.string());
}

}  // namespace fourmi
