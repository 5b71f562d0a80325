#include "framework/train/teacher/open_teacher.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/inspect.h"
#include "framework/digest/file_digest.h"
#include "framework/interop/import.h"
#include "framework/interop/origin.h"
#include "framework/recipe/policy.h"
#include "framework/recipe/read.h"
#include "framework/recipe/scalar.h"
#include "framework/tokenizer/choose.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

constexpr const char* key = "distill.teacher.from";

[[noreturn]] void refuse(std::string found, std::string expected, std::string remedy) {
  throw Error(ExitStatus::input, key, std::move(found) + ", " + std::move(expected), std::move(remedy));
}

ModelSection section_of(const std::string& from) {
  std::error_code ignored;
  if (!fs::exists(from, ignored))
    refuse(fmt::format("found no {}", from),
           "expected a run directory, a checkpoint, a Hugging Face folder or a GGUF file", "Name the teacher's");
  if (interop::foreign_kind(from)) return interop::ForeignModel(from).recipe("teacher").model;
  const recipe::OriginModel own = interop::origins().model(from);
  if (!own.is_recipe)
    refuse(fmt::format("found {} without weights", from), "expected a model that can be asked", "Name a whole one");
  return parse_recipe(own.text, own.name).model;
}

DataSection tokens_of(const std::string& from) {
  const recipe::OriginTokenizer t = interop::origins().tokenizer(from);
  DataSection data;
  data.tokenizer = t.tokenizer, data.tokenizer_sha256 = t.tokenizer_sha256, data.end_of_document = t.end_of_document;
  return data;
}

std::string bytes_of(const Tokenizer& tokenizer, std::int32_t token) {
  try {
    return tokenizer.decode(std::array{token});
  } catch (const Error&) {  // an id that stands for nothing
    return {};
  }
}

/// Files that differ may hold the same tokens.
void compare_tokens(const Recipe& student, const std::string& from) {
  DataSection theirs = tokens_of(from);
  const interop::VocabularyFiles files(theirs, {});
  pin_tokenizer(theirs, {});
  if (theirs.tokenizer_sha256 == student.data.tokenizer_sha256 &&
      (theirs.tokenizer == "bytes") == (student.data.tokenizer == "bytes"))
    return;
  const std::int64_t any_size = std::int64_t{1} << 30;
  const auto ours = make_tokenizer(student.data, any_size), other = make_tokenizer(theirs, any_size);
  const std::int64_t n = std::min(ours->vocab_size(), other->vocab_size());
  std::int64_t differ = std::max(ours->vocab_size(), other->vocab_size()) - n, first = -1;
  for (std::int64_t id = n; id-- > 0;)
    if (const auto t = static_cast<std::int32_t>(id); bytes_of(*ours, t) != bytes_of(*other, t)) ++differ, first = id;
  if (differ == 0) return;
  std::string found = fmt::format("found a teacher with another vocabulary: {} of its tokens are others", differ);
  if (first >= 0)
    found += fmt::format(", first {}, `{}` there and `{}` here", first,
                         recipe::shown(bytes_of(*other, static_cast<std::int32_t>(first))),
                         recipe::shown(bytes_of(*ours, static_cast<std::int32_t>(first))));
  refuse(found, "expected the student's",
         "Learn from texts that it writes instead, which any vocabulary can: distill.mode: text (docs/harvest.md)");
}

const char* name_of(DistillObjective objective) {
  switch (objective) {
    case DistillObjective::forward_kl:
      return "forward-kl";
    case DistillObjective::reverse_kl:
      return "reverse-kl";
    case DistillObjective::jensen_shannon:
      return "jsd";
  }
  return "";
}

std::string objective_of(const DistillSection& d) {
  if (!d.student_writes()) return name_of(d.objective);
  return fmt::format("{} on texts of which the student writes a share of {}", name_of(d.objective), d.on_policy.rate);
}

}  // namespace

void pin_teacher(Recipe& recipe, bool captures) {
  if (!recipe.distill.online() && !captures) return;
  TeacherSection& t = recipe.distill.teacher;
  check_teacher_terms(t.terms);
  ModelSection section = section_of(t.from);
  compare_tokens(recipe, t.from);
  // What is learned is of the tokens that both have: beyond the tokenizer's there is padding alone.
  const std::int64_t theirs = section.vocab_size, ours = recipe.model.vocab_size;
  const bool made_up = std::any_of(recipe.data.train.begin(), recipe.data.train.end(),
                                   [](const DataSource& s) { return s.format == "synthetic"; });
  if (theirs < ours && (made_up || recipe.distill.objective == DistillObjective::reverse_kl))
    refuse(fmt::format("found a teacher of {} rows in its vocabulary", theirs),
           fmt::format("expected the student's {} or more, since {}", ours,
                       made_up ? "synthetic sources draw from all of them"
                               : "reverse-kl takes logarithms of all that the student may say"),
           "Give the student as many (model.vocab_size); those beyond the tokenizer's are padding");
  if (section.max_position_embeddings < recipe.data.sequence_length)
    refuse(fmt::format("found a teacher of {} positions", section.max_position_embeddings),
           fmt::format("expected at least data.sequence_length {}", recipe.data.sequence_length),
           "Shorten the sequences");
  t.section = std::move(section);
}

Checkpoint open_teacher(Group& group, const Recipe& recipe, const fs::path& to, std::vector<std::string>& messages) {
  fs::path from = recipe.distill.teacher.from;
  if (interop::foreign_kind(from)) {
    const interop::ImportReport report = interop::import_model(group, from, to);
    messages.push_back(
        fmt::format("{}: {} is {}, imported to {}", key, from.string(), interop::name_of(report.kind), to.string()));
    messages.insert(messages.end(), report.warnings.begin(), report.warnings.end());
    from = to;
  }
  CheckpointChoice choice = open_model(group, from);
  messages.insert(messages.end(), choice.messages.begin(), choice.messages.end());
  return std::move(*choice.checkpoint);
}

std::string teacher_root(const std::string& from) {
  if (from.empty() || interop::foreign_kind(from)) return {};
  std::error_code ignored;
  if (!fs::exists(from, ignored)) return {};
  for (const CheckpointReport& report : inspect(from, Proof::listing))
    if (report.manifest) return report.manifest->root;
  return {};
}

TeacherFact teacher_fact_of(const Recipe& recipe, const Checkpoint& checkpoint) {
  const TeacherSection& t = recipe.distill.teacher;
  return {.name = t.name,
          .license = t.license,
          .path = fs::absolute(checkpoint.folder).string(),
          .root = checkpoint.manifest.root,
          .ledger_head = checkpoint.manifest.state.ledger_head,
          .objective = objective_of(recipe.distill),
          .terms_url = t.terms.url,
          .terms_sha256 = t.terms.file.empty() ? "" : digest_file(t.terms.file).sha256,
          .allows = t.terms.allows,
          .obligations = t.terms.obligations};
}

}  // namespace fourmi
