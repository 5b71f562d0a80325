// ledger.policy: which sources of data.train may not be trained on, and which teachers may not be learned from.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/recipe/recipe.h"

namespace fourmi {

/// What is known of a source's terms: by the recipe, and later also by the side file that was made with the data.
struct SourceTerms {
  std::string name, license, source;
  bool has_digest = false;  ///< one that was fixed before this run
  bool made_up = false;     ///< synthetic: there is nothing to have terms
};

/// "found ..., expected ...", and what to do. `key`: of the recipe, where a teacher's is to blame.
struct PolicyBreach {
  std::string found, expected, remedy, key{};
};

/// The first rule that the source breaks. With `more_to_come` (a side file was not read yet) only what is sure: terms
/// that are given and denied.
std::optional<PolicyBreach> breach(const LedgerSection& policy, const SourceTerms& source, bool more_to_come);

/// Of ledger.policy.deny: teachers of which nothing says that one may learn from them.
inline constexpr std::string_view no_distill = "no-distill";

/// What is known of a teacher's terms, by the recipe or by a ledger's entry.
struct TeacherRecord {
  std::string name, license;
  std::vector<std::string> allows;
  bool has_copy = false, has_url = false;  ///< of its terms: a saved copy, and where it was
};
TeacherRecord record_of(const TeacherSection& teacher);
/// As messages call it: its name, else the model, else where it is.
std::string name_of(const TeacherSection& teacher);

/// What of the recipe's teacher breaks ledger.policy.require: license; terms (a saved copy, and its address). Its
/// checkpoint's digest is recorded whatever the policy, and where it comes from is how it is reached.
std::optional<PolicyBreach> lacking(const LedgerSection& policy, const TeacherRecord& teacher);
/// What of any teacher breaks ledger.policy.deny: its licence; with no-distill also terms that do not say `distill`,
/// and a licence that forbids derivatives.
std::optional<PolicyBreach> denied(const LedgerSection& policy, const TeacherRecord& teacher);
/// Terms that are given and do not say `distill`: refused whatever the policy.
std::optional<PolicyBreach> forbidden(const TeacherRecord& teacher);

/// Throws Error(usage) for forbidden() terms.
void check_teacher_terms(const TeacherTerms& terms);

/// What is to be said of a teacher that no policy refuses: that nothing says that its terms allow to learn from it.
/// Empty: something does.
std::string doubt_about(const TeacherRecord& teacher);

/// May a file beside the data (made by `fourmi tokenize`) give terms and digest that the recipe does not?
bool may_have_side_file(const DataSource& source);
/// May a harvest have written the data (`fourmi teacher harvest`), which says their digest?
bool may_be_harvested(const DataSource& source);

}  // namespace fourmi
