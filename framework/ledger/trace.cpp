#include "framework/ledger/trace.h"

#include <algorithm>
#include <unordered_map>

#include "framework/ledger/harvest_fact.h"
#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

class Walk {
 public:
  Walk(const std::string& place, Trace& trace) : place_(place), t_(trace) {}

  void visit(const LedgerEntry& e) {
    entry_ = &e;
    if (e.index == 0 && e.type != RunFact::type && e.type != UnrecordedFact::type)
      fail("a run or unrecorded tokens as the root");
    if (e.type == RunFact::type) return run(run_fact(e, place_));
    if (e.type == UnrecordedFact::type) return unrecorded(unrecorded_fact(e, place_));
    if (t_.runs.empty()) fail("a run before it");
    if (e.type == DatasetFact::type) return dataset(dataset_fact(e, place_));
    if (e.type == LaunchFact::type) return launch(launch_fact(e, place_));
    if (e.type == TokensFact::type) return tokens(tokens_fact(e, place_));
    if (e.type == CheckpointFact::type) return checkpoint(checkpoint_fact(e, place_));
    if (e.type == RollbackFact::type) return expect_step(rollback_fact(e, place_).to_step);
    if (e.type == PromotionFact::type) return t_.promotions.push_back(promotion_fact(e, place_));
    if (e.type == TeacherFact::type) return teacher(teacher_fact(e, place_));
    if (e.type == CaptureFact::type) return capture(capture_fact(e, place_));
    if (e.type == HarvestFact::type) return learned_from(teacher_of(harvest_fact(e, place_)));
    if (e.type == ImportFact::type) return t_.imports.push_back(import_fact(e, place_));
    if (e.type == ExportFact::type) return exported(export_fact(e, place_));
    if (e.type == branch_type || e.type == model_from_type) return origin(e);
    // A type of a later version: it counts nothing.
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    throw Error(ExitStatus::input, place_,
                fmt::format("{} does not follow from the entries before it, expected {}", name_of(*entry_), expected),
                "Restore ledger.jsonl from a copy");
  }
  void expect_step(std::int64_t step) const {
    if (step != t_.step) fail(fmt::format("step {}, found {}", t_.step, step));
  }
  void expect_tokens(std::int64_t tokens) const {
    if (tokens != t_.run_tokens) fail(fmt::format("{} tokens, found {}", t_.run_tokens, tokens));
  }

  void begin_run(TracedRun run) {
    t_.step = t_.run_tokens = 0;
    t_.promotions.clear();
    t_.teacher.reset();
    t_.launch.reset();
    for (TracedSource& s : t_.sources) s.run_tokens = 0;
    t_.runs.push_back(std::move(run));
  }
  void run(const RunFact& f) {
    if (entry_->index > 0 && !after_origin_) fail("model.from before a further run");
    after_origin_ = false;
    begin_run({f.name, f.recipe_sha256, 0, 0, 0, f.model_type});
  }
  void unrecorded(const UnrecordedFact& f) {
    if (t_.runs.empty()) begin_run({std::string(unrecorded_name), "", 0, 0, 0});
    if (f.step < t_.step) fail(fmt::format("a step from {}", t_.step));
    count(source(std::string(unrecorded_name), {}), f.tokens);
    t_.step = t_.runs.back().steps = f.step;
  }
  void dataset(DatasetFact f) {
    const std::string id = f.id();
    if (!by_id_.contains(id)) {
      t_.datasets.push_back(f);
      source(id, f);
    }
  }
  void launch(LaunchFact f) {
    expect_step(f.step);
    ++t_.runs.back().launches;
    t_.launch = std::move(f);
  }
  /// The last word on each cache.
  void capture(CaptureFact f) {
    std::erase_if(t_.captures, [&](const CaptureFact& c) { return c.path == f.path; });
    t_.captures.push_back(std::move(f));
  }

  void teacher(TeacherFact f) {
    t_.teacher = f;
    learned_from(std::move(f));
  }
  void learned_from(TeacherFact f) {
    const bool known =
        std::any_of(t_.teachers.begin(), t_.teachers.end(), [&](const TeacherFact& t) { return is_same(t, f); });
    if (!known) t_.teachers.push_back(std::move(f));
  }
  void exported(ExportFact f) {
    expect_step(f.step);
    expect_tokens(f.tokens);
    if (f.root != t_.checkpoint.root) fail(fmt::format("an export of root {}", short_digest(t_.checkpoint.root)));
    t_.exports.push_back(std::move(f));
  }
  void tokens(const TokensFact& f) {
    expect_step(f.from_step);
    if (f.to_step <= f.from_step) fail(fmt::format("a step after {}", f.from_step));
    for (const SourceTokens& s : f.sources) {
      const auto known = by_id_.find(s.dataset);
      if (known == by_id_.end()) fail(fmt::format("dataset {} among those before", short_digest(s.dataset)));
      count(known->second, s.tokens);
    }
    t_.step = t_.runs.back().steps = f.to_step;
  }
  void checkpoint(CheckpointFact f) {
    expect_step(f.step);
    expect_tokens(f.tokens);
    t_.checkpoint = std::move(f);
  }
  void origin(const LedgerEntry& e) {
    const OriginFact f = origin_fact(e, place_);
    expect_step(f.step);
    expect_tokens(f.tokens);
    after_origin_ = e.type == model_from_type;
  }

  std::size_t source(const std::string& id, const DatasetFact& f) {
    const auto [at, fresh] = by_id_.try_emplace(id, t_.sources.size());
    if (fresh)
      t_.sources.push_back({f.name.empty() ? id : f.name, f.format, f.license, f.source, f.sha256, 0, 0,
                            f.name.empty() ? std::string() : id});
    return at->second;
  }
  void count(std::size_t source, std::int64_t tokens) {
    TracedSource& s = t_.sources[source];
    std::int64_t* const sums[] = {&s.tokens, &s.run_tokens, &t_.tokens, &t_.run_tokens, &t_.runs.back().tokens};
    for (std::int64_t* sum : sums)
      if (__builtin_add_overflow(*sum, tokens, sum)) fail("sums below 2^63");
  }

  const std::string& place_;
  Trace& t_;
  const LedgerEntry* entry_ = nullptr;
  bool after_origin_ = false;
  std::unordered_map<std::string, std::size_t> by_id_;
};

}  // namespace

Trace trace(const LedgerFile& ledger, std::string_view head, const std::string& place) {
  Trace result;
  Walk walk(place, result);
  for (const LedgerEntry* entry : ledger.lineage(head, place)) {
    walk.visit(*entry);
    if (entry->type == CheckpointFact::type) result.saved = entry->time;
    result.ended = entry->time;
  }
  result.head = head;
  return result;
}

}  // namespace fourmi
