// The ledger of a MODEL: that of the run which its checkpoint belongs to, from the head that the checkpoint's manifest
// names; of a folder that fourmi exported its own, from the head that fourmi.json names.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "framework/checkpoint/manifest.h"
#include "framework/interop/export_ledger.h"
#include "framework/ledger/file.h"
#include "framework/ledger/trace.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

struct ModelLedger {
  std::filesystem::path path;        ///< ledger.jsonl, or an export's
  std::filesystem::path checkpoint;  ///< the newest whose manifest is whole, or the exported folder
  std::string head;
  CheckpointState state;
  std::string root;
  LedgerFile ledger;
  std::optional<interop::ExportedLedger> exported;
  std::vector<Error> damaged;  ///< newer checkpoints, whose manifests are not whole
};

/// MODEL is a run directory, a checkpoint in one, or an exported folder. Throws Error(input): no checkpoint, no ledger,
/// a manifest without a head.
ModelLedger open_ledger(const std::filesystem::path& model);

/// Proves every line of the file, the lineage, and that its head tells of the checkpoint. Throws Error(input) naming
/// the entry.
Trace verify_ledger(const ModelLedger& model);

/// Throws Error(input) naming the first newer checkpoint that is damaged, or the first file of an exported folder that
/// is not as it was exported.
void verify_files(const ModelLedger& model);

/// Reads all files of all sources of the lineage again, and all caches that were learned from. Throws Error(input)
/// naming the first whose size or digest differs.
void verify_data(const Trace& trace);

/// The lineage that a launch of the recipe would go on from: the run's own, the branch point's, that of model.from.
/// Nothing where there is none, or none is known. Throws Error(input) for one that does not prove.
std::optional<Trace> lineage_before(const Recipe& recipe);

}  // namespace fourmi
