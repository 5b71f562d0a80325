// fourmi_ledger.jsonl in an exported folder: the lineage of the checkpoint that it was made from, and after it an entry
// `export` with the digest of every file. fourmi.json names that entry, so the folder tells where it comes from, and
// proves itself, wherever it lies and whatever became of its run.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/checkpoint/load.h"
#include "framework/ledger/export_fact.h"
#include "framework/ledger/trace.h"

namespace fourmi::interop {

inline constexpr const char* export_ledger_name = "fourmi_ledger.jsonl";

/// The entries that led to a checkpoint. Where none tell of it (`problem` says why), one that says so.
struct KnownLineage {
  std::vector<LedgerEntry> entries;  ///< from the root; never empty
  Trace trace;
  std::string problem;  ///< empty: the lineage is whole
};
/// `run`: the checkpoint's run directory; empty: it stands alone. A ledger that cannot be read is a problem to be told,
/// no error.
KnownLineage lineage_of(const Checkpoint& checkpoint, const std::filesystem::path& run);

/// Digests of all files of the folder but ledger and mark, by name, ascending. Those in `known` are not read again.
std::vector<DataFile> files_in(const std::filesystem::path& folder, const std::vector<DataFile>& known);

/// The lineage with the entry `export` after it, as the ledger's text; `head` becomes that entry's name.
std::string export_ledger_text(const KnownLineage& lineage, const ExportFact& fact, std::string& head);

/// An exported folder's ledger, proven but for the files' bytes.
struct ExportedLedger {
  std::filesystem::path folder;
  LedgerFile ledger;
  std::string head;
  ExportFact fact;  ///< the head's
  Trace trace;
};
bool has_export_ledger(const std::filesystem::path& folder);
/// Throws Error(input) naming file and entry: an entry that does not prove or does not follow, a head that is no
/// `export`, a fourmi.json that is not what the head says.
ExportedLedger read_export_ledger(const std::filesystem::path& folder);

/// Throws Error(input) naming the first of these files whose size or digest is another one.
void prove_files(const std::filesystem::path& folder, const std::vector<DataFile>& files);
/// What lies in the folder and was not exported.
std::vector<std::string> others_in(const ExportedLedger& exported);

}  // namespace fourmi::interop
