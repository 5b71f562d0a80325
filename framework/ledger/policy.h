// ledger.policy against a lineage: what a model learned before counts as much as what it is to learn.
#pragma once

#include "framework/ledger/trace.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// Throws Error(usage) naming the first source that tokens were learned of, or teacher, that `ledger.policy.deny`
/// names.
void check_lineage(const Trace& trace, const LedgerSection& policy);

/// What obligations of the teachers in a lineage ask of everything that is made from it, each once.
struct Obligations {
  struct Asked {
    std::string text, teacher;
  };
  std::vector<Asked> name_prefixes, notices, others;
};
Obligations obligations_of(const std::vector<TeacherFact>& teachers);

/// Throws Error(usage) naming teacher, obligation and a name that would do, if an export may not be called so. `place`:
/// the folder, or the key that names it.
void check_export_name(const std::vector<TeacherFact>& teachers, const std::string& name, const std::string& place);

}  // namespace fourmi
