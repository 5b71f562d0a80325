// One rank's part of a training run, without files or clocks: model, optimizer, and the step. The trainer gives it
// batches' positions and writes down what it returns; tests run several of it in one process.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "framework/data/loader.h"
#include "framework/train/evaluate.h"
#include "framework/train/non_finite.h"
#include "framework/train/optimizer.h"
#include "framework/train/phase.h"
#include "framework/train/pipeline.h"
#include "parallel/groups.h"
#include "parallel/traffic.h"

namespace fourmi {

/// What one step gave; losses are means in nats, equal on every rank to the bit.
struct StepResult {
  std::int64_t targets = 0;  ///< unmasked targets of the global batch
  double loss = 0, loss_mtp = 0, loss_balance = 0;
  double grad_norm = 0;  ///< before clipping
  double learning_rate = 0;
  double expert_load_max_over_mean = 1;  ///< of the worst layer
  std::string non_finite;                ///< what is not finite, and where; empty: all is
  bool state_is_bad = false;             ///< it is in a weight: the next step would be as bad
  bool partial_sum_refused = false;      ///< by an exact sum, on some rank: then the norm is NaN
  bool updated = true;                   ///< false: the judge left the state as it was
  double spike_z = 0;                    ///< of a spike, by the guard (spike.h)
};

/// Asked on every rank before the optimizer's update, with equal figures: is the step to change the state? May throw,
/// on all ranks alike.
using StepJudge = std::function<bool(const StepResult&)>;
/// Sees each layer's output in forward (Context::after_layer); for tests, which may change it.
using ActivationProbe = std::function<void(std::int64_t layer, const Tensor& output_MD)>;

class Engine {
 public:
  using Memory = decltype(std::declval<Arenas>().sizes());
  /// Bytes by arena that training takes on the rank that needs most of `num_ranks`; nothing is allocated.
  static Memory measure(const Recipe& recipe, int num_ranks);
  /// All of them outlive it. `groups`: make_groups (stages.h). Proves the order of all ranks' calls (Error(bug)).
  Engine(const Recipe& recipe, const RankGroups& groups, const Stream& stream);
  ~Engine();

  /// A new run's state, from run.seed.
  void initialise();
  /// After masters, moments and router bias were loaded through boxes(): weights of all ranks follow.
  void state_loaded();

  /// One optimizer step (numbered from 1) on the samples after `position`; `tokens_before` are the input positions of
  /// all earlier steps. Without a judge a loss or gradient that is not finite throws Error(guard); the state is then
  /// what it was before the step.
  StepResult step(const Loader& loader, const StepPlan& plan, std::int64_t step, double tokens_before,
                  const PhaseObserver& observer, const StepJudge& judge = nullptr);
  /// Loss on held-out windows, shared among the data ranks. Collective among all ranks.
  EvaluationResult evaluate(const Validation& validation, std::int64_t num_windows);
  void set_activation_probe(ActivationProbe probe) { probe_ = std::move(probe); }

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
  const Tensor& expert_counts() const;
  const std::vector<Slot>& router_biases() const;
  const Arenas& arenas() const { return *arenas_; }
  const Stream& stream() const { return *stream_; }
  std::int64_t attention_block() const;  ///< rows per block of attention in this run

 private:
  struct Parts;
  struct Sums;
  class Step;
  class Probe;
  class Panels;
  class Calls;
  /// Makes the weights of all ranks follow their owners'.
  void gather_weights();
  int num_micro_batches(const StepPlan& plan) const;
  Sums run_micro_batches(const Loader& loader, const StepPlan& plan, std::int64_t step, double tokens_before,
                         const PhaseObserver& observer);
  StepResult agree(const Sums& sums, const StepPlan& plan) const;
  double update_router_bias(double rate);
  void find_non_finite(const Loader& loader, const StepPlan& plan, StepResult& result);
  NonFinite find_in_weights();
  NonFinite find_in_gradients();
  NonFinite find_in_forward(const Loader& loader, const StepPlan& plan);

  const Recipe* recipe_;
  const RankGroups* groups_;
  const Stream* stream_;
  StageMap stages_;
  std::unique_ptr<ParameterTable> table_, held_;
  std::unique_ptr<Arenas> arenas_;
  std::unique_ptr<Parts> parts_;
  ActivationProbe probe_;
  TrafficMeter traffic_;
  std::unique_ptr<Calls> calls_;  // null: nobody looks at them
};

}  // namespace fourmi
