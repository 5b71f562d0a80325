#include "framework/recipe/policy.h"

#include <fmt/format.h>

#include <algorithm>

#include "framework/recipe/license.h"
#include "framework/recipe/scalar.h"
#include "kernels/runtime/error.h"

namespace fourmi {

bool may_have_side_file(const DataSource& source) {
  return source.format == "bin";
}

std::optional<PolicyBreach> breach(const LedgerSection& policy, const SourceTerms& s, bool more_to_come) {
  const std::string name = recipe::shown(s.name);
  for (const std::string& rule : policy.require) {
    if (s.made_up) break;  // there is nothing to have terms
    const bool met = rule == "license" ? !s.license.empty() : rule == "source" ? !s.source.empty() : s.has_digest;
    if (met || more_to_come) continue;
    const std::string key = rule == "digest" ? "sha256" : rule;
    return PolicyBreach{fmt::format("found no {} of the source `{}`", rule, name),
                        fmt::format("expected one, as `ledger.policy.require` says ({})", rule),
                        fmt::format("Give `data.train.{}.{}`, or take the source out", name, key)};
  }
  if (s.license.empty() || policy.deny.empty()) return std::nullopt;
  const std::string denied = denied_by(s.license, policy.deny);
  if (denied.empty()) return std::nullopt;
  return PolicyBreach{fmt::format("found the source `{}` under {}", name, recipe::shown(s.license)),
                      fmt::format("expected terms that `ledger.policy.deny` does not name ({})", denied),
                      "Take the source out, or change the policy"};
}

void check_teacher_terms(const TeacherTerms& terms) {
  if (terms.allows.empty() || std::count(terms.allows.begin(), terms.allows.end(), "distill") > 0) return;
  std::string list;
  for (const std::string& word : terms.allows) list += (list.empty() ? "" : ", ") + word;
  throw Error(ExitStatus::usage, "distill.teacher.terms.allows",
              fmt::format("the teacher's terms were found to allow {}, distill was expected among them", list),
              "Learn from a teacher whose terms allow it");
}

}  // namespace fourmi
