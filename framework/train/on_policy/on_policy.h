// On-policy distillation (Agarwal et al. 2023, "On-Policy Distillation of Language Models"): with a probability, a
// sample's text behind its prompt is the student's own, written before the step with the weights as they are, and what
// is learned there is the divergence to the teacher alone. Which samples, and every token, follow from run.seed and the
// sample's number in the run: any layout, and any launch that goes on, has the same.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "framework/data/loader.h"
#include "framework/tokenizer/tokenizer.h"
#include "framework/train/on_policy/whole_weights.h"
#include "framework/train/on_policy/writer.h"
#include "framework/train/on_policy/written_texts.h"

namespace fourmi {

class OnPolicy {
 public:
  /// `recipe`: with distill.mode on-policy. Memory for the copy of the student that writes, equal on all ranks, from
  /// `arena`; where that is measuring nothing can be written.
  OnPolicy(const Recipe& recipe, const StageMap& stages, const Mesh& mesh, Arena& arena);

  /// What it has written is of weights that are no longer.
  void forget() { known_ = false; }
  bool knows(const StepPlan& plan) const;
  /// Collective among all ranks: the step with the student's texts in place of those samples that it writes, good until
  /// the next call. `optimizer`, `mine`: the weights, of this rank's engine.
  const StepPlan& write(const Loader& loader, const StepPlan& plan, const Optimizer& optimizer,
                        const ParameterStore& mine, Group& world, const Stream& stream);
  /// Of the step that was written last.
  const StepPlan& step() const { return step_; }
  const WrittenTexts& texts() const { return texts_; }
  double seconds() const { return seconds_; }  ///< that writing it took on this rank

 private:
  void choose(const Loader& loader, const StepPlan& plan, int rank);

  const Recipe* recipe_;
  StudentWriter writer_;
  WholeWeights weights_;
  WrittenTexts texts_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<Draft> drafts_;  // this rank's
  Batch sample_;
  StepPlan step_;
  bool known_ = false;
  double seconds_ = 0;
};

}  // namespace fourmi
