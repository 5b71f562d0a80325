// A run's ledger as the trainer keeps it: what it is trained on is described and held against ledger.policy before the
// first step, every launch and checkpoint gets its entry, and tokens are counted by source
// (framework/ledger/lineage.h). Only rank 0 writes; the calls of the other ranks do nothing.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "framework/checkpoint/load.h"
#include "framework/ledger/capture_fact.h"
#include "framework/ledger/dataset.h"
#include "framework/ledger/harvest_fact.h"
#include "framework/ledger/lineage.h"
#include "framework/ledger/trace.h"
#include "framework/run/launches.h"
#include "framework/train/beginning.h"
#include "framework/train/narrator.h"
#include "framework/train/run_context.h"

namespace fourmi {

/// "<run>/ledger.jsonl".
std::filesystem::path ledger_path(const std::filesystem::path& run_directory);

/// Terms of every source of data.train against ledger.policy, and whether the saved copy of the teacher's is there;
/// reads no more than side files. Throws Error(usage) naming source, rule and remedy. Also for the dry run.
void check_policy(const Recipe& recipe);

class Provenance {
 public:
  Provenance(const RunContext& context, Narrator& narrator) : context_(context), narrator_(narrator) {}

  /// Before anything is read: check_policy, and that harvests came to their end (framework/train/harvested.h).
  void check();

  /// Digests of the sources: of files that are not known yet, by reading them. Throws Error(input).
  void describe();

  /// Before begin(): whom the launch learns from, unless that is an endpoint (distill.mode text), and from which cache.
  void teach(TeacherFact teacher, std::optional<CaptureFact> capture) {
    teacher_ = std::move(teacher), capture_ = std::move(capture);
  }

  /// Enters the launch after the head of the checkpoint that the state came from; a new run begins with its own root,
  /// or after the lineage of the model whose weights it took. Throws Error(input) if that lineage is not whole (with
  /// `accept_changes` a new one begins, and the tokens before are said to be unrecorded), Error(usage) if the policy
  /// denies a part of it or the teacher, if the teacher is not the one of the last launch (with `accept_changes` it is
  /// taken, and recorded), or if the run's own export may not have its name.
  void begin(const Beginning& beginning, const std::optional<Checkpoint>& checkpoint, const LaunchRecord& record,
             bool accept_changes);

  /// After each step: input positions of each source in it.
  void consumed(std::int64_t step, std::span<const std::int64_t> tokens_by_source);
  /// As the state is copied for a save; when its files are on the disk; when it is known what became of it.
  void snapshot();
  std::string seal(const Manifest& manifest);
  void settle(bool committed);

  /// The state is that of an earlier checkpoint of this run again; `head` is its manifest's ledger_head.
  void roll_back(const std::string& head, std::int64_t from_step, std::int64_t to_step, const std::string& cause);

 private:
  struct Parent;
  void go_on(const Checkpoint& checkpoint, const Beginning& beginning, bool accept_changes);
  void go_on_after(const Parent& parent, bool accept_changes);
  Trace traced() const;
  void check_terms(bool accept_changes);
  void enter_launch();

  const RunContext& context_;
  Narrator& narrator_;
  std::vector<DatasetFact> sources_;
  std::vector<HarvestFact> harvests_;
  std::optional<TeacherFact> teacher_;
  std::optional<CaptureFact> capture_;  // of that teacher
  std::unique_ptr<LedgerWriter> writer_;
  std::unique_ptr<RunLineage> lineage_;
  LaunchFact launch_;
  std::vector<std::string> taken_over_;  ///< changes that were accepted and no key of the recipe tells
  std::string begun_;                    ///< the head after this launch's entry
};

}  // namespace fourmi
