#include "framework/train/provenance.h"

#include <algorithm>

#include "framework/data/text.h"
#include "framework/digest/sha256.h"
#include "framework/ledger/policy.h"
#include "framework/recipe/license.h"
#include "framework/recipe/write.h"
#include "framework/run/files.h"
#include "framework/train/harvested.h"
#include "framework/train/teacher_terms.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

constexpr const char* cache_name = "data_digests.json";

SourceFiles source_files(const DataSource& source) {
  if (source.format == "synthetic") return {source, {}};
  const bool tokens = source.format == "bin";  // PREFIX, PREFIX.bin, or a pattern or folder of .bin
  if (std::error_code ignored; tokens && fs::is_regular_file(source.path + ".bin", ignored))
    return {source, {source.path + ".bin"}};
  SourceFiles found{source, find_files(source.path, fmt::format("data.train.{}.path", source.name))};
  if (tokens) std::erase_if(found.files, [](const fs::path& file) { return file.extension() != ".bin"; });
  return found;
}

LaunchFact launch_fact_of(const LaunchRecord& record, std::string_view started_as,
                          const std::vector<ChangedKey>& changes) {
  LaunchFact fact{record.number,
                  record.step,
                  static_cast<std::int64_t>(record.hosts.size()),
                  std::string(started_as),
                  record.commit,
                  record.version,
                  sha256(record.recipe),
                  {},
                  {}};
  for (const std::string& host : record.hosts)
    if (fact.hosts.empty() || fact.hosts.back() != host) fact.hosts.push_back(host);
  for (const ChangedKey& c : changes) fact.changes.push_back(to_string(c));
  return fact;
}

bool same_folder(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return fs::equivalent(a, b, error) && !error;
}

}  // namespace

fs::path ledger_path(const fs::path& run_directory) {
  return run_directory / "ledger.jsonl";
}

void check_policy(const Recipe& recipe) {
  for (const DataSource& source : recipe.data.train) {
    SourceFiles files{source, {}};
    if (may_have_side_file(source) || (may_be_harvested(source) && !recipe.ledger.require.empty()))
      files = source_files(source);
    SourceTerms terms = terms_of(files);
    terms.has_digest = terms.has_digest || has_harvest_digest(files.files);
    if (const LicenseProblem problem = check_license(terms.license); !terms.license.empty() && !problem.found.empty())
      throw Error(
          ExitStatus::input, "data.train." + source.name,
          fmt::format("{} in the licence `{}` of its side file, {}", problem.found, terms.license, problem.expected),
          problem.remedy);
    if (const auto broken = breach(recipe.ledger, terms, false))
      throw Error(ExitStatus::usage, "data.train." + source.name, broken->found + ", " + broken->expected,
                  broken->remedy);
  }
  // That the copy is named is what the recipe tells; whether it is there, only a look.
  const TeacherTerms& terms = recipe.distill.teacher.terms;
  std::error_code ignored;
  const std::vector<std::string>& rules = recipe.ledger.require;
  if (std::find(rules.begin(), rules.end(), "terms") != rules.end() && !terms.file.empty() &&
      !fs::is_regular_file(terms.file, ignored))
    throw Error(ExitStatus::usage, "distill.teacher.terms.file",
                fmt::format("found no file {}, expected the saved copy of the terms of the teacher `{}`, as "
                            "`ledger.policy.require` says (terms)",
                            terms.file, name_of(recipe.distill.teacher)),
                "Save the terms there");
}

void Provenance::check() {
  if (!context_.first()) return;
  check_harvests(context_.recipe, [this](const std::string& text) { narrator_.warn(text); });
  check_policy(context_.recipe);
}

void Provenance::describe() {
  if (!context_.first()) return;
  const DistillSection& distill = context_.recipe.distill;
  if (distill.mode == "text" && distill.teacher != TeacherSection{}) teacher_ = teacher_of_recipe(context_.recipe);
  const fs::path side = context_.directory / cache_name;
  DigestCache cache(files::read(side).value_or(std::string()));
  for (const DataSource& source : context_.recipe.data.train) {
    sources_.push_back(describe_source(source_files(source), cache));
    for (HarvestFact& harvest : harvests_of(sources_.back())) harvests_.push_back(std::move(harvest));
  }
  if (cache.changed()) files::replace(side, cache.text());
}

/// Where a lineage comes from.
struct Provenance::Parent {
  fs::path run;  ///< its directory; empty: the checkpoint stands alone
  const Manifest& manifest;
  fs::path checkpoint;
};

void Provenance::begin(const Beginning& b, const std::optional<Checkpoint>& checkpoint, const LaunchRecord& record,
                       bool accept_changes) {
  if (!context_.first()) return;
  writer_ = std::make_unique<LedgerWriter>(ledger_path(context_.directory));
  if (writer_->cut_off() > 0)
    narrator_.warn(
        fmt::format("{}: {} bytes of a torn last line were cut off", writer_->path().string(), writer_->cut_off()));
  if (!writer_->file().damage().empty())
    narrator_.warn(fmt::format("{}: line {}: {}", writer_->path().string(), writer_->file().damage().front().line,
                               writer_->file().damage().front().what));
  lineage_ = std::make_unique<RunLineage>(*writer_, "");
  if (checkpoint) {
    go_on(*checkpoint, b, accept_changes);
  } else {
    if (b.origin) {
      const Manifest& m = b.origin->manifest;
      go_on_after({run_of(b.origin->folder), m, b.origin->folder}, accept_changes);
      lineage_->say(model_from_type, to_payload(OriginFact{fs::absolute(b.origin->folder).string(), m.root,
                                                           m.state.step, m.state.tokens}));
    }
    lineage_->say(RunFact::type, to_payload(RunFact{context_.recipe.run.name, sha256(record.recipe),
                                                    context_.recipe.model.model_type}));
  }
  using Kind = StartDecision::Kind;
  const char* kinds[] = {"fresh", "go on", "branch"};
  static_assert(static_cast<int>(Kind::branch) == 2);
  // A branch may well have another teacher than its parent.
  const bool own = checkpoint && same_folder(run_of(checkpoint->folder), context_.directory);
  check_terms(accept_changes || !own);
  // Said by the launch that went back, after the same checkpoint: now it is on a side branch.
  if (b.rollback) lineage_->say(RollbackFact::type, to_payload(*b.rollback));
  lineage_->declare(sources_);
  for (const HarvestFact& harvest : harvests_) lineage_->say(HarvestFact::type, to_payload(harvest));
  launch_ = launch_fact_of(record, kinds[static_cast<int>(b.decision.kind)], b.decision.changes);
  launch_.changes.insert(launch_.changes.end(), taken_over_.begin(), taken_over_.end());
  enter_launch();
  begun_ = lineage_->head();
}

void Provenance::go_on(const Checkpoint& checkpoint, const Beginning&, bool accept_changes) {
  const fs::path run = run_of(checkpoint.folder);
  go_on_after({run, checkpoint.manifest, checkpoint.folder}, accept_changes);
  if (same_folder(run, context_.directory)) return;
  const CheckpointState& state = checkpoint.manifest.state;
  lineage_->say(branch_type, to_payload(OriginFact{fs::absolute(checkpoint.folder).string(), checkpoint.manifest.root,
                                                   state.step, state.tokens}));
}

/// The head moves to the parent's, whose lineage is copied where it is another run's.
void Provenance::go_on_after(const Parent& parent, bool accept_changes) {
  const CheckpointState& state = parent.manifest.state;
  const fs::path path = parent.run.empty() ? fs::path() : ledger_path(parent.run);
  std::string cause;
  try {
    if (state.ledger_head.empty()) {
      cause = "the checkpoint was written before there were ledgers";
    } else if (parent.run.empty()) {
      cause = "the checkpoint stands alone, without its run's ledger";
    } else {
      const bool own = same_folder(parent.run, context_.directory);
      std::vector<LedgerEntry> copies;
      const LedgerFile other = own ? LedgerFile() : read_ledger(path);
      const LedgerFile& ledger = own ? writer_->file() : other;
      const Trace t = trace(ledger, state.ledger_head, path.string());
      if (t.checkpoint.root != parent.manifest.root || t.run_tokens != state.tokens || t.step != state.step)
        throw Error(
            ExitStatus::input, path.string(),
            fmt::format(
                "the head {} tells of step {}, {} tokens, root {}, expected step {}, {} tokens, root {} as {} says",
                short_digest(state.ledger_head), t.step, t.run_tokens, short_digest(t.checkpoint.root), state.step,
                state.tokens, short_digest(parent.manifest.root), parent.checkpoint.string()));
      if (!own)
        for (const LedgerEntry* e : ledger.lineage(state.ledger_head, path.string())) copies.push_back(*e);
      writer_->append(copies);
      lineage_ = std::make_unique<RunLineage>(*writer_, state.ledger_head);
      return;
    }
  } catch (const Error& e) {
    if (e.status() != ExitStatus::input) throw;
    if (!accept_changes)
      throw Error(ExitStatus::input, e.place(), e.cause(),
                  "Restore ledger.jsonl from a copy, or start with --accept-changes: the tokens so far are then said "
                  "to be unrecorded");
    cause = "the ledger was damaged";
  }
  narrator_.warn(fmt::format("{}: where its {} tokens came from is not recorded: {}", parent.checkpoint.string(),
                             state.tokens, cause));
  lineage_->say(UnrecordedFact::type, to_payload(UnrecordedFact{state.step, state.tokens, cause}));
}

Trace Provenance::traced() const {
  return lineage_->head().empty() ? Trace{} : trace(writer_->file(), lineage_->head(), writer_->path().string());
}

/// What the model already learned from counts too.
void Provenance::check_terms(bool accept_changes) {
  Trace before = traced();
  check_lineage(before, context_.recipe.ledger);
  if (teacher_) {
    judge_teacher(*teacher_, context_.recipe.ledger);
    for (const std::string& warning : teacher_->warnings) narrator_.warn(warning);
    if (const std::string change = changed_teacher(before, *teacher_, accept_changes); !change.empty()) {
      narrator_.say("changed: " + change);
      taken_over_.push_back(change);
    }
    before.teachers.push_back(*teacher_);
  }
  for (TeacherFact& t : teachers_of_harvests(context_.recipe)) {
    if (teacher_ && is_same(t, *teacher_)) continue;
    judge_teacher(t, context_.recipe.ledger);
    for (const std::string& warning : t.warnings) narrator_.warn(warning);
    before.teachers.push_back(std::move(t));
  }
  check_own_export(context_.recipe, before.teachers);
}

/// Also after a rollback to what an earlier launch left: then those entries are on a side branch.
void Provenance::enter_launch() {
  if (teacher_) lineage_->say(TeacherFact::type, to_payload(*teacher_));
  if (capture_) lineage_->say(CaptureFact::type, to_payload(*capture_));
  lineage_->say(LaunchFact::type, to_payload(launch_));
}

void Provenance::consumed(std::int64_t step, std::span<const std::int64_t> tokens_by_source) {
  if (lineage_) lineage_->consumed(step, tokens_by_source);
}

void Provenance::snapshot() {
  if (lineage_) lineage_->snapshot();
}

std::string Provenance::seal(const Manifest& manifest) {
  const CheckpointState& state = manifest.state;
  std::vector<PromotionFact> promotions;
  for (const Promotion& p : training_state_from_json(state.training, "the checkpoint's state").guard.promoted)
    promotions.push_back({p.step, p.layer});
  return lineage_->seal(manifest.root, state.tokens, promotions);
}

void Provenance::settle(bool committed) {
  if (lineage_) lineage_->settle(committed);
}

void Provenance::roll_back(const std::string& head, std::int64_t from_step, std::int64_t to_step,
                           const std::string& cause) {
  if (!lineage_) return;
  // A checkpoint without a head is the one that this launch began with, from before there were ledgers.
  const std::string& target = head.empty() ? begun_ : head;
  const auto way = writer_->file().lineage(target, writer_->path().string());
  const bool of_this_launch =
      std::any_of(way.begin(), way.end(), [&](const LedgerEntry* e) { return e->sha256 == begun_; });
  lineage_->roll_back(target, {from_step, to_step, cause});
  if (of_this_launch) return;
  launch_.step = to_step;
  enter_launch();
}

}  // namespace fourmi
