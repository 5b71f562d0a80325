#include "framework/ledger/policy.h"

#include <algorithm>

#include "framework/recipe/license.h"
#include "framework/recipe/obligation.h"
#include "framework/recipe/scalar.h"
#include "kernels/runtime/error.h"

namespace fourmi {

void check_lineage(const Trace& trace, const LedgerSection& policy) {
  for (const TracedSource& s : trace.sources) {
    if (s.tokens == 0 || s.license.empty() || !check_license(s.license).found.empty()) continue;
    if (const std::string word = denied_by(s.license, policy.deny); !word.empty())
      throw Error(
          ExitStatus::usage, "ledger.policy.deny",
          fmt::format(
              "found {} tokens of the source `{}` under {} in what the model was trained on, expected none ({})",
              s.tokens, s.name, s.license, word),
          "Begin from a model without that source, or change the policy");
  }
  for (const TeacherFact& t : trace.teachers)
    if (const auto broken = denied(policy, record_of(t)))
      throw Error(ExitStatus::usage, "ledger.policy.deny",
                  fmt::format("{} among those that the model learned from, {}", broken->found, broken->expected),
                  "Begin from a model that did not learn from it, or change the policy");
}

Obligations obligations_of(const std::vector<TeacherFact>& teachers) {
  Obligations all;
  for (const TeacherFact& t : teachers)
    for (const std::string& words : t.obligations) {
      const Obligation o = parse_obligation(words);
      std::vector<Obligations::Asked>& kind = o.kind == Obligation::Kind::name_prefix ? all.name_prefixes
                                              : o.kind == Obligation::Kind::notice    ? all.notices
                                                                                      : all.others;
      const bool known = std::any_of(kind.begin(), kind.end(), [&](const auto& a) { return a.text == o.text; });
      if (!known) kind.push_back({o.text, name_of(t)});
    }
  return all;
}

void check_export_name(const std::vector<TeacherFact>& teachers, const std::string& name, const std::string& place) {
  std::vector<std::string> prefixes;
  const Obligations asked = obligations_of(teachers);
  for (const auto& a : asked.name_prefixes) prefixes.push_back(a.text);
  for (const auto& a : asked.name_prefixes) {
    if (name.starts_with(a.text)) continue;
    const std::string other = name_with(prefixes, name);
    throw Error(
        ExitStatus::usage, place,
        fmt::format("found an export called `{}` of a model that learned from the teacher `{}`, expected a name "
                    "that begins with `{}`, as the obligation `name-prefix:{}` says",
                    recipe::shown(name), recipe::shown(a.teacher), recipe::shown(a.text), recipe::shown(a.text)),
        other.empty() ? "No name can begin as all of its teachers ask"
                      : fmt::format("`{}` would do", recipe::shown(other)));
  }
}

}  // namespace fourmi
