// What the ledger says of a folder that other libraries load, which was written from a checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/ledger/facts.h"

namespace fourmi {

/// "export": after the checkpoint that it was made from, in the folder's own copy of the lineage.
struct ExportFact {
  static constexpr std::string_view type = "export";
  std::string name, dtype;  ///< name: the folder's
  std::string root;         ///< the checkpoint's
  std::string run;          ///< which run's it is (framework/interop/export_mark.h)
  std::int64_t step = 0, tokens = 0;
  std::vector<DataFile> files;  ///< by their paths inside of the folder, ascending
};

std::string to_payload(const ExportFact& fact);
/// Throws Error(input) at `place` naming the entry if a member is missing or of another kind.
ExportFact export_fact(const LedgerEntry& entry, const std::string& place);

}  // namespace fourmi
