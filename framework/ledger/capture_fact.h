// What the ledger says of a cache of a teacher's distributions that a run learns from.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "framework/ledger/entry.h"

namespace fourmi {

/// "capture": of a launch; the entry "teacher" before it says whose.
struct CaptureFact {
  static constexpr std::string_view type = "capture";
  std::string path, root;    ///< the folder, and the digest over what it was made of and its parts
  std::string kind;          ///< top-k, sampled
  std::int64_t entries = 0;  ///< tokens of a position
  std::int64_t rows = 0, bytes = 0;
};

std::string to_payload(const CaptureFact& fact);
/// Throws Error(input) at `place` naming the entry if a member is missing or of another kind.
CaptureFact capture_fact(const LedgerEntry& entry, const std::string& place);

}  // namespace fourmi
