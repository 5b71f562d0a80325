// The ledger of a MODEL: that of the run which its checkpoint belongs to, from the head that the checkpoint's manifest
// names.
#pragma once

#include <filesystem>
#include <string>

#include "framework/checkpoint/manifest.h"
#include "framework/ledger/file.h"
#include "framework/ledger/trace.h"

namespace fourmi {

struct ModelLedger {
  std::filesystem::path path;        ///< ledger.jsonl
  std::filesystem::path checkpoint;  ///< the newest whose manifest is whole
  std::string head;
  CheckpointState state;
  std::string root;
  LedgerFile ledger;
};

/// MODEL is a run directory or a checkpoint in one. Throws Error(input): no checkpoint, no ledger, a manifest without a
/// head.
ModelLedger open_ledger(const std::filesystem::path& model);

/// Proves every line of the file, the lineage, and that its head tells of the checkpoint. Throws Error(input) naming
/// the entry.
Trace verify_ledger(const ModelLedger& model);

/// Reads all files of all sources of the lineage again. Throws Error(input) naming the first whose size or digest
/// differs.
void verify_data(const Trace& trace);

}  // namespace fourmi
