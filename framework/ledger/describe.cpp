#include <fmt/format.h>

#include "framework/ledger/capture_fact.h"
#include "framework/ledger/export_fact.h"
#include "framework/ledger/facts.h"
#include "framework/ledger/harvest_fact.h"
#include "framework/ledger/import_fact.h"
#include "framework/ledger/teacher_fact.h"

namespace fourmi {

std::string describe(const LedgerEntry& e, const std::string& place) {
  if (e.type == RunFact::type) {
    const RunFact f = run_fact(e, place);
    return fmt::format("run {} ({}), recipe {}", f.name, f.model_type, short_digest(f.recipe_sha256));
  }
  if (e.type == DatasetFact::type) {
    const DatasetFact f = dataset_fact(e, place);
    return fmt::format("source {} ({}), licence {}, from {}, {} bytes, SHA-256 {}", f.name, f.format,
                       f.license.empty() ? "not given" : f.license, f.source.empty() ? "not given" : f.source,
                       f.bytes(), f.sha256.empty() ? "none" : short_digest(f.sha256));
  }
  if (e.type == LaunchFact::type) {
    const LaunchFact f = launch_fact(e, place);
    return fmt::format("launch {} after step {} ({}) on {} rank(s), commit {}", f.launch, f.step, f.started_as, f.ranks,
                       f.commit);
  }
  if (e.type == TokensFact::type) {
    const TokensFact f = tokens_fact(e, place);
    return fmt::format("steps {} to {}: {} tokens of {} source(s)", f.from_step + 1, f.to_step, f.total(),
                       f.sources.size());
  }
  if (e.type == CheckpointFact::type) {
    const CheckpointFact f = checkpoint_fact(e, place);
    return fmt::format("checkpoint of step {}, {} tokens, root {}", f.step, f.tokens, short_digest(f.root));
  }
  if (e.type == RollbackFact::type) {
    const RollbackFact f = rollback_fact(e, place);
    return fmt::format("rollback from step {} to {}: {}", f.from_step, f.to_step, f.cause);
  }
  if (e.type == PromotionFact::type) {
    const PromotionFact f = promotion_fact(e, place);
    return fmt::format("layer {} works in bf16, by what was found at step {}", f.layer, f.step);
  }
  if (e.type == branch_type || e.type == model_from_type) {
    const OriginFact f = origin_fact(e, place);
    return fmt::format("{} {} at step {}, root {}", e.type == branch_type ? "branch from" : "weights of", f.path,
                       f.step, short_digest(f.root));
  }
  if (e.type == ImportFact::type) {
    const ImportFact f = import_fact(e, place);
    return fmt::format("import of {}{}, licence {}, {}, {} bytes{}", f.path,
                       f.name.empty() ? "" : fmt::format(" ({})", f.name), f.license.empty() ? "not given" : f.license,
                       f.dtype, f.bytes, f.sha256.empty() ? "" : ", SHA-256 " + short_digest(f.sha256));
  }
  if (e.type == TeacherFact::type) {
    const TeacherFact f = teacher_fact(e, place);
    return fmt::format(
        "learns from {}{} by {}, licence {}{}", f.path, f.name.empty() ? "" : fmt::format(" ({})", f.name), f.objective,
        f.license.empty() ? "not given" : f.license, f.root.empty() ? "" : ", root " + short_digest(f.root));
  }
  if (e.type == ExportFact::type) {
    const ExportFact f = export_fact(e, place);
    return fmt::format("export {} of step {}, {}, {} files, root {}", f.name, f.step, f.dtype, f.files.size(),
                       short_digest(f.root));
  }
  if (e.type == CaptureFact::type) {
    const CaptureFact f = capture_fact(e, place);
    return fmt::format("learns from the cache {}: {} positions, {} ({} tokens each), root {}", f.path, f.rows, f.kind,
                       f.entries, short_digest(f.root));
  }
  if (e.type == HarvestFact::type) return describe(harvest_fact(e, place));
  if (e.type == UnrecordedFact::type) {
    const UnrecordedFact f = unrecorded_fact(e, place);
    return fmt::format("{} tokens up to step {} without a record: {}", f.tokens, f.step, f.cause);
  }
  return "of a type that this fourmi does not know";
}

}  // namespace fourmi
