// Runs the stages of one rank through a step: the executor of a schedule's list. All that decides what is done when was
// decided before the first step (parallel/schedule/program.h); here memory, models and messages meet.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "framework/model/model.h"
#include "framework/train/micro_batches.h"
#include "framework/train/staged_rows.h"
#include "framework/train/stages.h"
#include "parallel/group.h"
#include "parallel/schedule/program.h"

namespace fourmi {

class Pipeline {
 public:
  /// The stages of `rank`; `counts`: the numbers of micro-batches that steps may have. Memory for as many micro-batches
  /// as the schedule has in flight on this rank. Proves each schedule's order first (Error(bug)).
  /// `groups`: null where memory is only measured.
  Pipeline(const Recipe& recipe, const StageMap& map, int rank, std::span<const int> counts,
           const ParameterStore& store, const ModelTables& tables, const LayerGroups& groups, Arena& activations);

  /// One step: forward and backward of all micro-batches. `pipeline`: the ranks of the stages, in order. Collective
  /// among them.
  void run(const Stream&, Group& pipeline, int num_micro_batches, const LossWeights&, const Context&, MicroBatches&);
  /// Forward of all of them, nothing else.
  void evaluate(const Stream&, Group& pipeline, int num_micro_batches, const Context&, MicroBatches&);

  /// What this rank did in the last run, in order; nanoseconds of the steady clock.
  struct Done {
    Verb verb = Verb::forward;
    Pass pass;
    std::int64_t begin = 0, end = 0;
  };
  std::span<const Done> done() const { return done_; }
  bool has_head() const;
  /// Throws if rows to experts or back never came, as far as the stream's work is done (parallel/dispatch).
  void check_exchange() const {
    if (workspace_.experts) workspace_.experts->check();
  }

 private:
  struct Run;  // what the instructions of one run share
  void act(const Instruction&, Run&);
  void act_together(const Instruction& forward, const Instruction& backward, Run&);
  Model& model_of(const Instruction& i) { return *models_[static_cast<std::size_t>(i.pass.chunk)]; }
  StagePass pass(const Instruction&, const StagedRows&, const Run&) const;
  const StagedRows& rows(int place, int micro_batch, MicroBatches&, const Stream&);
  Tensor border(int index) const { return index < 0 ? Tensor{} : borders_[static_cast<std::size_t>(index)]; }

  StageMap map_;
  int rank_;
  SequencePart part_;                           // of each sequence
  std::vector<std::unique_ptr<Model>> models_;  // by chunk
  Workspace workspace_;
  std::map<int, Program> programs_;  // this rank's, by number of micro-batches
  std::vector<Tensor> borders_;      // what comes from other stages and goes to them
  std::vector<Request> requests_;
  std::vector<StagedRows> rows_;
  std::vector<Done> done_;
};

}  // namespace fourmi
