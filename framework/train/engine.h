// One rank's part of a training run, without files or clocks: model, optimizer, and the step. The trainer gives it
// batches' positions and writes down what it returns; tests run several of it in one process.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/data/loader.h"
#include "framework/train/evaluate.h"
#include "framework/train/non_finite.h"
#include "framework/train/operand_statistics.h"
#include "framework/train/optimizer.h"
#include "framework/train/phase.h"
#include "framework/train/pipeline.h"
#include "framework/train/precision_gap.h"
#include "parallel/groups.h"
#include "parallel/traffic.h"

namespace fourmi {

/// What one step gave; losses are means in nats, equal on every rank to the bit.
struct StepResult {
  std::int64_t targets = 0;  ///< unmasked targets of the global batch
  std::int64_t tokens = 0;   ///< its input positions, without padding
  double loss = 0, loss_mtp = 0, loss_balance = 0;
  /// The divergence from a teacher; what is learned is the mixture of it and `loss`, which is then over the targets
  /// that the data gave. 0 without one.
  double loss_distill = 0;
  std::int64_t tokens_written = 0;  ///< of the targets those of texts that the student wrote
  double writing_seconds = 0;       ///< that this took, before the micro-batches
  double grad_norm = 0;             ///< before clipping
  double learning_rate = 0;
  double expert_load_max_over_mean = 1;  ///< of the worst layer
  std::string non_finite;                ///< what is not finite, and where; empty: all is
  bool state_is_bad = false;             ///< it is in a weight: the next step would be as bad
  bool partial_sum_refused = false;      ///< by an exact sum, on some rank: then the norm is NaN
  bool updated = true;                   ///< false: the judge left the state as it was
  double spike_z = 0;                    ///< of a spike, by the guard (spike.h)
  std::int64_t num_promoted = 0;         ///< layers that work in bf16 in a run of eight bits
  PrecisionFigures precision;            ///< of the comparison before it, by the guard of eight bits
};

/// Asked on every rank before the optimizer's update, with equal figures: is the step to change the state? May throw,
/// on all ranks alike.
using StepJudge = std::function<bool(const StepResult&)>;
/// Sees each layer's output in forward (Context::after_layer); for tests, which may change it.
using ActivationProbe = std::function<void(std::int64_t layer, const Tensor& output_MD)>;
// OperandProbe sees what products read alike (Context::after_operand).

class Guidance;
class OnPolicy;

class Engine {
 public:
  using Memory = decltype(std::declval<Arenas>().sizes());
  /// Bytes by arena that training takes on the rank that needs most of `num_ranks`; nothing is allocated.
  static Memory measure(const Recipe& recipe, int num_ranks);
  /// All of them outlive it. `groups`: make_groups (stages.h). Proves the order of all ranks' calls (Error(bug)).
  /// Its memory is of the device whose stream that is.
  /// `teachers`: of a teacher in this job, its groups (make_teacher_groups).
  Engine(const Recipe& recipe, const RankGroups& groups, const Stream& stream, const RankGroups* teachers = nullptr);
  ~Engine();

  /// A new run's state, from run.seed.
  void initialise();
  /// After masters, moments and router bias were loaded through boxes(): weights of all ranks follow.
  void state_loaded();
  /// What the student learns of a teacher (teacher/teacher.h, teacher/cached_teacher.h), not open yet; null where the
  /// recipe has nothing of the kind.
  Guidance* guidance() const { return guidance_.get(); }
  /// Null where the student writes nothing.
  const OnPolicy* on_policy() const { return on_policy_.get(); }

  /// These layers (numbers; multi-token prediction is the one after the last) work in bf16 from here on, all others as
  /// the recipe says: between steps, on all ranks alike. Throws Error(usage) where the recipe's guard keeps no memory
  /// for that. Nothing in a run whose precision has no eight bits.
  void promote(std::span<const std::int64_t> layers);
  PromotedLayers promoted() const { return promoted_; }
  bool guards_precision() const;
  /// Micro-batches of the step as layers compute now against the same with all layers in bf16; nothing of the state
  /// changes. Collective among all ranks. The references are good until the next call of any of these or step().
  const PrecisionGap& compare_precision(const ShadowStep&);
  /// After it, of the same step: against the same bf16 pass, with this layer alone in eight bits, and as layers compute
  /// now.
  const PrecisionGap& gap_of_layer(const ShadowStep&, std::int64_t layer);
  const PrecisionGap& compare_again(const ShadowStep&);
  /// What products read in the last pass with all layers as they compute now.
  const OperandStatistics& operand_statistics() const;
  const MapNames& maps() const;

  /// One optimizer step (numbered from 1) on the samples after `position`; `tokens_before` are the input positions of
  /// all earlier steps. Without a judge a loss or gradient that is not finite throws Error(guard); the state is then
  /// what it was before the step.
  StepResult step(const Loader& loader, const StepPlan& plan, std::int64_t step, double tokens_before,
                  const PhaseObserver& observer, const StepJudge& judge = nullptr);
  /// Loss on held-out windows, shared among the data ranks. Collective among all ranks.
  EvaluationResult evaluate(const Validation& validation, std::int64_t num_windows);
  void set_activation_probe(ActivationProbe probe) { probe_ = std::move(probe); }
  void set_operand_probe(OperandProbe probe) { operand_probe_ = std::move(probe); }

  /// Everything that a checkpoint must hold of tensors: this rank's masters and moments, and on rank 0 the router bias.
  std::vector<Box> boxes() const;

  /// The whole model's; what this rank holds is store().table().
  const ParameterTable& table() const { return *table_; }
  const ParameterStore& store() const;
  Optimizer& optimizer();
  const Pipeline& pipeline() const;
  /// What this rank has sent in the last step.
  const std::vector<GroupTraffic>& traffic() const { return traffic_.step(); }
  const StageMap& stages() const { return stages_; }
  const RankGroups& groups() const { return *groups_; }
  /// ModelTables' of the last step, over all ranks; and the routers' correction biases in the order of its rows, empty
  /// where the family has none.
  /// The counts are of the host.
  const Tensor& expert_counts() const;
  const std::vector<Slot>& router_biases() const;
  const Arenas& arenas() const { return *arenas_; }
  const Stream& stream() const { return *stream_; }
  DeviceRuntime* device() const { return device_; }  ///< null: the CPU
  std::int64_t attention_block() const;              ///< rows per block of attention in this run

 private:
  struct Parts;
  struct Sums;
  class Step;
  class Probe;
  class Panels;
  class Calls;
  class Promoting;
  struct Guarded;
  struct ShadowLosses {
    double loss = 0, loss_mtp = 0;  ///< sums over targets
    bool finite = true;
  };
  /// Makes the weights of all ranks follow their owners'.
  void gather_weights();
  void begin_together();
  /// What layers are told of the run, of this engine's memory and of probes.
  Context context(std::int32_t* refused) const;
  int num_micro_batches(const StepPlan& plan) const;
  Sums run_micro_batches(const Loader& loader, const StepPlan& plan, std::int64_t step, double tokens_before,
                         const PhaseObserver& observer, int count, OperandCheck* check);
  const StepPlan& with_own_texts(const Loader& loader, const StepPlan& plan);
  void prepare_guidance(const Loader& loader, const StepPlan& plan, double tokens_before);
  void begin_gradients();
  ShadowLosses run_shadow(const ShadowStep& s, OperandCheck* check);
  const PrecisionGap& gap_to_reference(const ShadowStep& s, OperandCheck* check);
  StepResult agree(const Sums& sums, const StepPlan& plan) const;
  double update_router_bias(double rate);
  void find_non_finite(const Loader& loader, const StepPlan& plan, StepResult& result);
  NonFinite find_in_weights();
  NonFinite find_in_gradients();
  NonFinite find_in_forward(const Loader& loader, const StepPlan& plan);

  const Recipe* recipe_;
  const RankGroups* groups_;
  const Stream* stream_;
  DeviceRuntime* device_;
  StageMap stages_;
  std::unique_ptr<ParameterTable> table_, held_;
  std::unique_ptr<Arenas> arenas_;
  std::unique_ptr<Parts> parts_;
  std::unique_ptr<Guidance> guidance_;   // null: there is none
  std::unique_ptr<OnPolicy> on_policy_;  // null: the student writes nothing
  ActivationProbe probe_;
  OperandProbe operand_probe_;
  std::vector<std::uint8_t> promoted_;
  bool has_state_ = false;
  TrafficMeter traffic_;
  std::unique_ptr<Calls> calls_;  // null: nobody looks at them
};

}  // namespace fourmi
