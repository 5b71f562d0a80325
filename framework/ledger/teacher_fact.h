// What the ledger says of a teacher whose logits a run learns from.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/ledger/entry.h"

namespace fourmi {

/// "teacher": of a launch. Its own lineage is in the ledger of its run, where it has one.
struct TeacherFact {
  static constexpr std::string_view type = "teacher";
  std::string name, license;            ///< as the recipe says; may be empty
  std::string path, root;               ///< the checkpoint, and the digest over its tensors
  std::string ledger_head;              ///< of that checkpoint; empty: it has none
  std::string objective;                ///< what is learned of it
  std::string terms_url, terms_sha256;  ///< of the saved copy; empty: there is none
  std::vector<std::string> allows, obligations;
};

std::string to_payload(const TeacherFact& fact);
/// Throws Error(input) at `place` naming the entry if a member is missing or of another kind.
TeacherFact teacher_fact(const LedgerEntry& entry, const std::string& place);

}  // namespace fourmi
