// What the ledger says of a teacher that a run learns from.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/ledger/entry.h"
#include "framework/recipe/policy.h"

namespace fourmi {

/// "teacher": of a launch. Its own lineage is in the ledger of its run, where it has one.
struct TeacherFact {
  static constexpr std::string_view type = "teacher";
  std::string name, license;  ///< as the recipe says; may be empty
  std::string path, root;     ///< the checkpoint, and the digest over its tensors; of an endpoint its address, and none
  std::string ledger_head;    ///< of that checkpoint; empty: it has none
  std::string objective;      ///< what is learned of it
  std::string terms_url, terms_sha256;  ///< of the saved copy; empty: there is none
  std::vector<std::string> allows, obligations;
  std::vector<std::string> warnings{};  ///< what was not sure of its terms when the launch began
  bool operator==(const TeacherFact&) const = default;
};

std::string to_payload(const TeacherFact& fact);
/// Throws Error(input) at `place` naming the entry if a member is missing or of another kind.
TeacherFact teacher_fact(const LedgerEntry& entry, const std::string& place);

/// The same teacher, taught in the same way under the same terms? What was not sure of them does not count.
bool is_same(const TeacherFact& a, TeacherFact b);
/// What a policy asks of it (framework/recipe/policy.h).
TeacherRecord record_of(const TeacherFact& fact);
/// As messages call it: its name, else where it is.
std::string name_of(const TeacherFact& fact);

}  // namespace fourmi
