#include "framework/train/teacher_terms.h"

#include <algorithm>
#include <filesystem>

#include "framework/digest/file_digest.h"
#include "framework/ledger/policy.h"
#include "framework/recipe/obligation.h"
#include "framework/recipe/policy.h"
#include "framework/run/start.h"
#include "framework/train/provenance.h"
#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

void inherit_obligations(TeacherFact& teacher) {
  const std::filesystem::path run = teacher.root.empty() ? "" : run_of(teacher.path);
  if (run.empty() || teacher.ledger_head.empty()) return;
  const std::filesystem::path ledger = ledger_path(run);
  try {
    for (const TeacherFact& t : trace(read_ledger(ledger), teacher.ledger_head, ledger.string()).teachers)
      for (const std::string& words : t.obligations)
        if (std::find(teacher.obligations.begin(), teacher.obligations.end(), words) == teacher.obligations.end())
          teacher.obligations.push_back(words);
  } catch (const Error& e) {
    teacher.warnings.push_back(
        fmt::format("what those ask that the teacher `{}` learned from is not known: {}", name_of(teacher), e.what()));
  }
}

}  // namespace

TeacherFact teacher_of_recipe(const Recipe& recipe) {
  const TeacherSection& t = recipe.distill.teacher;
  return {.name = name_of(t),
          .license = t.license,
          .path = t.endpoint.empty() ? t.from : t.endpoint,
          .root = {},
          .ledger_head = {},
          .objective = "texts",
          .terms_url = t.terms.url,
          .terms_sha256 = t.terms.file.empty() ? "" : digest_file(t.terms.file).sha256,
          .allows = t.terms.allows,
          .obligations = t.terms.obligations};
}

void judge_teacher(TeacherFact& teacher, const LedgerSection& policy) {
  const TeacherRecord record = record_of(teacher);
  for (const auto& broken : {forbidden(record), lacking(policy, record), denied(policy, record)})
    if (broken) throw Error(ExitStatus::usage, broken->key, broken->found + ", " + broken->expected, broken->remedy);
  inherit_obligations(teacher);
  if (const std::string doubt = doubt_about(record); !doubt.empty()) teacher.warnings.push_back(doubt);
  for (const std::string& words : teacher.obligations)
    if (parse_obligation(words).kind == Obligation::Kind::other)
      teacher.warnings.push_back(fmt::format(
          "the teacher `{}` asks: {}; nothing here can hold exports to it, a person must", record.name, words));
}

std::string changed_teacher(const Trace& before, const TeacherFact& now, bool accept_changes) {
  if (!before.teacher || before.teacher->root.empty() || now.root.empty() || before.teacher->root == now.root)
    return {};
  const TeacherFact& was = *before.teacher;
  if (!accept_changes)
    throw Error(ExitStatus::usage, "distill.teacher.from",
                fmt::format("found the teacher {} with root {}, expected {} with root {}, which the run learned from "
                            "before",
                            now.path, now.root, was.path, was.root),
                fmt::format("Start with --accept-changes and distill.teacher.from={}, which does not move on; or with "
                            "--accept-changes alone, to learn from the other one",
                            was.path));
  return fmt::format("distill.teacher.from: {} (root {}) -> {} (root {})", was.path, was.root, now.path, now.root);
}

void check_own_export(const Recipe& recipe, const std::vector<TeacherFact>& teachers) {
  if (recipe.export_.when == ExportWhen::never || recipe.export_.path.empty()) return;
  check_export_name(teachers, export_name(recipe.export_.path), "export.path");
}

}  // namespace fourmi
