// A running run's place in its ledger. What is said goes after the head; what is consumed waits until a checkpoint that
// holds it is about to be committed, because only then does it belong to a model that can be gone on with:
//
//   consumed(step, tokens by source)   each step
//   snapshot()                         as the state is copied for a save
//   seal(root, tokens) -> head         all files are on the disk; adds "tokens", new promotions and "checkpoint",
//   forced
//                                      to the disk; the manifest that names this head is written after it
//   settle(committed)                  committed: the head moves there; else both entries stay as a side branch
//
// A kill between seal and the manifest leaves a side branch too: the next launch goes on from the head of the manifest
// that it finds. One process, the owner of the run directory, holds one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "framework/ledger/facts.h"
#include "framework/ledger/file.h"

namespace fourmi {

class RunLineage {
 public:
  /// Goes on after `head` (empty: a root is to come). Throws Error(input) if its lineage is not whole in the writer's
  /// file.
  RunLineage(LedgerWriter& writer, std::string head);

  const std::string& head() const { return head_; }
  std::int64_t step() const { return head_step_; }      ///< of the run, at the head
  std::int64_t tokens() const { return head_tokens_; }  ///< of the run, at the head

  /// Adds an entry after the head and makes it the head. Throws Error(environment).
  void say(std::string_view type, const std::string& payload);

  /// The sources of the loader, in its order. Those that the lineage does not have yet are added.
  void declare(const std::vector<DatasetFact>& sources);

  /// After `step` was made: input positions of each declared source in it.
  void consumed(std::int64_t step, std::span<const std::int64_t> tokens_by_source);
  void snapshot();
  /// `tokens`: all input positions of the run at the snapshot, as the manifest will say; `promotions`: all in the
  /// state, of which those are added that the lineage does not have yet. Throws Error(environment).
  std::string seal(const std::string& root, std::int64_t tokens, std::span<const PromotionFact> promotions = {});
  void settle(bool committed);

  /// The state is that of an earlier checkpoint again: its manifest's head, what was consumed since is forgotten.
  void roll_back(const std::string& head, const RollbackFact& fact);

 private:
  struct Count {
    std::int64_t step = 0;
    std::vector<std::int64_t> tokens;  ///< by source, since the head
  };
  void move_to(const std::string& head);

  LedgerWriter& writer_;
  std::string head_, sealed_;
  std::int64_t head_step_ = 0, head_tokens_ = 0;
  std::vector<DatasetFact> sources_;   ///< declared
  std::vector<std::string> datasets_;  ///< their ids
  Count now_, saved_;
};

}  // namespace fourmi
