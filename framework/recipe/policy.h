// ledger.policy: which sources of data.train may not be trained on.
#pragma once

#include <optional>
#include <string>

#include "framework/recipe/recipe.h"

namespace fourmi {

/// What is known of a source's terms: by the recipe, and later also by the side file that was made with the data.
struct SourceTerms {
  std::string name, license, source;
  bool has_digest = false;  ///< one that was fixed before this run
  bool made_up = false;     ///< synthetic: there is nothing to have terms
};

/// "found ..., expected ...", and what to do.
struct PolicyBreach {
  std::string found, expected, remedy;
};

/// The first rule that the source breaks. With `more_to_come` (a side file was not read yet) only what is sure: terms
/// that are given and denied.
std::optional<PolicyBreach> breach(const LedgerSection& policy, const SourceTerms& source, bool more_to_come);

/// Terms of a teacher as the recipe has them, which say what they allow and do not say `distill`: Error(usage).
void check_teacher_terms(const TeacherTerms& terms);

/// May a file beside the data (made by `fourmi tokenize`) give terms and digest that the recipe does not?
bool may_have_side_file(const DataSource& source);

}  // namespace fourmi
