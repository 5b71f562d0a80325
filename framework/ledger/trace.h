// Where every token of a model came from: a lineage walked from its root to its head, every entry checked against those
// before it. What a rollback or a kill abandoned is a side branch, is not walked and counts nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/ledger/capture_fact.h"
#include "framework/ledger/export_fact.h"
#include "framework/ledger/facts.h"
#include "framework/ledger/file.h"
#include "framework/ledger/import_fact.h"
#include "framework/ledger/teacher_fact.h"

namespace fourmi {

struct TracedSource {
  std::string name, format, license, source, sha256;
  std::int64_t tokens = 0;      ///< input positions over the whole lineage, parents of model.from included
  std::int64_t run_tokens = 0;  ///< of these, in the last run
  std::string dataset{};        ///< DatasetFact::id; empty: nothing is recorded of it
};

struct TracedRun {
  std::string name, recipe_sha256;
  std::int64_t steps = 0, tokens = 0, launches = 0;
  std::string model_type{};
};

struct Trace {
  std::int64_t step = 0;                  ///< of the last run, at the head
  std::int64_t tokens = 0;                ///< over the whole lineage
  std::int64_t run_tokens = 0;            ///< of the last run: what its metrics say at that step
  std::vector<TracedRun> runs;            ///< the last one is the model's; those before it gave their weights
  std::vector<TracedSource> sources;      ///< in the order of their first appearance; name "(unrecorded)": not known
  std::vector<DatasetFact> datasets;      ///< every one that was declared
  std::vector<TeacherFact> teachers;      ///< of all runs, writers of harvested texts too, each once, in order
  std::optional<TeacherFact> teacher;     ///< the last one of the last run
  std::vector<CaptureFact> captures;      ///< caches that were learned from, each as it was last
  std::vector<ImportFact> imports;        ///< weights that other programs made
  std::vector<ExportFact> exports;        ///< folders on the way, and at its end that which the ledger lies in
  std::optional<LaunchFact> launch;       ///< the last one of the last run
  std::vector<PromotionFact> promotions;  ///< of the last run
  CheckpointFact checkpoint;              ///< the newest on the way; step 0 and no root if there is none
  std::string head;                       ///< its name
  std::string saved, ended;               ///< when the newest checkpoint and the head were entered, UTC
};

/// Walks from the root to `head`. Throws Error(input) at `place` naming the first entry that is missing, damaged, or
/// does not follow from those before it: steps with a gap or twice, tokens of a source that was not declared, sums that
/// differ.
Trace trace(const LedgerFile& ledger, std::string_view head, const std::string& place);

inline constexpr std::string_view unrecorded_name = "(unrecorded)";

}  // namespace fourmi
