// What the ledger says of weights that another program made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "framework/ledger/entry.h"

namespace fourmi {

/// "import": what they were trained on is not known beyond this.
struct ImportFact {
  static constexpr std::string_view type = "import";
  std::string path, license, dtype;  ///< license: as its model card says; empty: it says none
  std::int64_t bytes = 0;            ///< of its weights' files
  std::string name, sha256;          ///< of a model in one file: as that calls it, and the file's; else empty
};

std::string to_payload(const ImportFact& fact);
/// Throws Error(input) at `place` naming the entry if a member is missing or of another kind.
ImportFact import_fact(const LedgerEntry& entry, const std::string& place);

}  // namespace fourmi
