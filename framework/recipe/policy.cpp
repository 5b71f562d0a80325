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

bool may_be_harvested(const DataSource& source) {
  return source.format == "messages";
}

std::optional<PolicyBreach> breach(const LedgerSection& policy, const SourceTerms& s, bool more_to_come) {
  const std::string name = recipe::shown(s.name);
  for (const std::string& rule : policy.require) {
    if (s.made_up) break;           // there is nothing to have terms
    if (rule == "terms") continue;  // of a teacher
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

TeacherRecord record_of(const TeacherSection& t) {
  return {name_of(t), t.license, t.terms.allows, !t.terms.file.empty(), !t.terms.url.empty()};
}

std::string name_of(const TeacherSection& t) {
  for (const std::string& name : {t.name, t.model, t.from, t.endpoint})
    if (!name.empty()) return name;
  return "(without a name)";
}

namespace {

bool wants(const std::vector<std::string>& rules, std::string_view rule) {
  return std::find(rules.begin(), rules.end(), rule) != rules.end();
}

std::string shown_list(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + recipe::shown(word);
  return list;
}

bool allows_distilling(const TeacherRecord& t) {
  return wants(t.allows, "distill");
}

}  // namespace

std::optional<PolicyBreach> lacking(const LedgerSection& policy, const TeacherRecord& t) {
  const auto without = [&](const char* what, const char* rule, const char* key) {
    return PolicyBreach{fmt::format("found no {} of the teacher `{}`", what, recipe::shown(t.name)),
                        fmt::format("expected one, as `ledger.policy.require` says ({})", rule),
                        fmt::format("Give `{}`, or learn from another teacher", key), key};
  };
  if (wants(policy.require, "license") && t.license.empty())
    return without("license", "license", "distill.teacher.license");
  if (!wants(policy.require, "terms")) return std::nullopt;
  if (!t.has_copy) return without("saved copy of the terms", "terms", "distill.teacher.terms.file");
  if (!t.has_url) return without("address of the terms", "terms", "distill.teacher.terms.url");
  return std::nullopt;
}

std::optional<PolicyBreach> denied(const LedgerSection& policy, const TeacherRecord& t) {
  const auto by = [&](const std::string& why, const std::string& word, std::string remedy, const char* key) {
    return PolicyBreach{fmt::format("found the teacher `{}` {}", recipe::shown(t.name), why),
                        fmt::format("expected terms that `ledger.policy.deny` does not name ({})", word),
                        std::move(remedy), key};
  };
  const bool has_license = !t.license.empty() && check_license(t.license).found.empty();
  if (has_license)
    if (const std::string word = denied_by(t.license, policy.deny); !word.empty())
      return by("under " + recipe::shown(t.license), word, "Learn from another teacher, or change the policy",
                "distill.teacher.license");
  if (!wants(policy.deny, no_distill)) return std::nullopt;
  const std::vector<std::string> derivatives{"no-derivatives"};
  if (has_license && !denied_by(t.license, derivatives).empty())
    return by(fmt::format("under {}, which forbids what is made of it", recipe::shown(t.license)),
              std::string(no_distill), "Learn from another teacher, or change the policy", "distill.teacher.license");
  if (t.allows.empty())
    return by("without a word on what its terms allow (`distill.teacher.terms.allows`)", std::string(no_distill),
              "Read its terms; where they allow it, say so: `distill.teacher.terms.allows: [distill]`",
              "distill.teacher.terms.allows");
  if (!allows_distilling(t))
    return by(
        fmt::format("whose terms allow {} and not distill (`distill.teacher.terms.allows`)", shown_list(t.allows)),
        std::string(no_distill), "Learn from a teacher whose terms allow it", "distill.teacher.terms.allows");
  return std::nullopt;
}

std::optional<PolicyBreach> forbidden(const TeacherRecord& t) {
  if (t.allows.empty() || allows_distilling(t)) return std::nullopt;
  return PolicyBreach{fmt::format("the teacher's terms were found to allow {}", shown_list(t.allows)),
                      "distill was expected among them", "Learn from a teacher whose terms allow it",
                      "distill.teacher.terms.allows"};
}

void check_teacher_terms(const TeacherTerms& terms) {
  TeacherSection teacher;
  teacher.terms = terms;
  if (const auto broken = forbidden(record_of(teacher)))
    throw Error(ExitStatus::usage, broken->key, broken->found + ", " + broken->expected, broken->remedy);
}

std::string doubt_about(const TeacherRecord& t) {
  if (!t.allows.empty()) return {};
  return fmt::format(
      "nothing says that the terms of the teacher `{}` allow to learn from it: distill.teacher.terms.allows is not "
      "given",
      recipe::shown(t.name));
}

}  // namespace fourmi
