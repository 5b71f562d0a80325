#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "framework/train/engine_parts.h"
#include "framework/train/on_policy/on_policy.h"
#include "framework/train/schedule.h"
#include "framework/train/teacher/guidance.h"
#include "kernels/ops/reduce.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

Engine::~Engine() = default;

const ParameterStore& Engine::store() const {
  return parts_->store;
}
std::int64_t Engine::attention_block() const {
  return cuts_of(*recipe_, nullptr).attention_block;
}
const Pipeline& Engine::pipeline() const {
  return parts_->pipeline;
}
const Tensor& Engine::expert_counts() const {
  return parts_->counts_LE;
}
const std::vector<Slot>& Engine::router_biases() const {
  return parts_->router_biases;
}
Optimizer& Engine::optimizer() {
  return parts_->optimizer;
}

void Engine::initialise() {
  parts_->optimizer.initialise(*stream_, recipe_->run.seed, recipe_->model.initializer_range);
  fill_zero(*stream_, parts_->store.weights(ParameterSet::router_bias));
  has_state_ = true;
  gather_weights();
  begin_together();
}

/// On GPUs kernels of the first step wait for those of other ranks, which may share the card: by then nobody waits for
/// all of a card any more, as memory and loading do.
void Engine::begin_together() {
  if (device_) groups_->world().barrier();
}

void Engine::gather_weights() {
  if (on_policy_) on_policy_->forget();
  const WeightForms forms{promoted_};
  parts_->optimizer.gather_weights(*stream_, *groups_, forms);
  parts_->panels.begin(forms);
}

void Engine::state_loaded() {
  // Only rank 0's file holds it.
  const OnHost bias(device_, parts_->store.weights(ParameterSet::router_bias), OnHost::Use::both);
  const Tensor& b = bias.tensor();
  groups_->world().broadcast({static_cast<std::byte*>(b.data), static_cast<std::size_t>(b.bytes())}, 0);
  bias.back();
  parts_->optimizer.masters_changed(*stream_);
  has_state_ = true;
  gather_weights();
  begin_together();
}

/// This rank's micro-batches of a step, and the sums of their losses.
class Engine::Step : public MicroBatches {
 public:
  Step(const Engine& engine, const Loader& loader, const StepPlan& plan, std::int64_t step,
       const PhaseObserver& observer, bool balance)
      : engine_(engine), loader_(loader), plan_(plan), step_(step), observer_(observer), balance_(balance) {}
  void fill(int index, Batch& batch) override {
    const Group& data = engine_.groups_->data();
    loader_.micro_batch(plan_, data.rank(), data.size(), index, engine_.recipe_->data.micro_batch_size, batch);
  }
  void take(const BatchLosses& losses, const BatchTensors&) override {
    const Stream& stream = *engine_.stream_;
    const OwningSpan span(stream.timeline(), Work::head, "sum_of_losses");
    // Every rank of the tensor axis finds the losses of all its rows; balance losses are of a rank's own sequences.
    const bool counted = engine_.groups_->tensor().rank() == 0;
    if (counted && losses.loss_M) sums.add(stream, losses.loss_M, sums.loss);
    if (const Guidance* guidance = engine_.guidance(); counted && losses.loss_M && guidance)
      sums.add(stream, *guidance->divergence_M(), sums.divergence);
    if (counted && losses.loss_mtp_M) sums.add(stream, losses.loss_mtp_M, sums.loss_mtp);
    if (balance_)
      for (const Tensor& b : losses.balance_S) sums.add(stream, b, sums.balance);
  }
  void enter(Verb verb) override { observer_(verb == Verb::forward ? Phase::forward : Phase::backward, step_); }

  Sums sums;

 private:
  const Engine& engine_;
  const Loader& loader_;
  const StepPlan& plan_;
  std::int64_t step_;
  const PhaseObserver& observer_;
  bool balance_;
};

int Engine::num_micro_batches(const StepPlan& plan) const {
  return static_cast<int>(std::ssize(plan.samples) / groups_->data().size() / recipe_->data.micro_batch_size);
}

Context Engine::context(std::int32_t* refused) const {
  Context c = cuts_of(*recipe_, refused);
  c.panels = &parts_->panels;
  if (probe_) c.after_layer = &probe_;
  if (operand_probe_) c.after_operand = &operand_probe_;
  c.promoted = promoted_;
  if (guidance_) c.objective = guidance_->objective();
  return c;
}

/// The step with the student's own texts, which are written once, before the step's calls and the teacher's.
const StepPlan& Engine::with_own_texts(const Loader& loader, const StepPlan& plan) {
  if (!on_policy_) return plan;
  if (on_policy_->knows(plan)) return on_policy_->step();
  if (guidance_) guidance_->forget();
  return on_policy_->write(loader, plan, parts_->optimizer, parts_->store, groups_->world(), *stream_);
}

/// Of all micro-batches of the step, before the first of them: no call of the student's.
void Engine::prepare_guidance(const Loader& loader, const StepPlan& plan, double tokens_before) {
  if (guidance_) guidance_->prepare(loader, plan, recipe_->distill.weight.at(tokens_before), *stream_);
}

Engine::Sums Engine::run_micro_batches(const Loader& loader, const StepPlan& plan, std::int64_t step,
                                       double tokens_before, const PhaseObserver& observer, int count,
                                       OperandCheck* check) {
  Parts& p = *parts_;
  // The sum over the step is divided by its targets, but all rows have experts: where a part of them is learned, each
  // counts less. (Exactly 1 where all is.)
  const double learned = static_cast<double>(std::max<std::int64_t>(1, plan.num_targets)) /
                         static_cast<double>(std::max<std::int64_t>(1, plan.num_inputs));
  const LossWeights weights{recipe_->model.num_nextn_predict_layers ? recipe_->loss.mtp_weight.at(tokens_before) : 0.0,
                            learned * recipe_->loss.balance_weight.at(tokens_before)};
  Step work(*this, loader, plan, step, observer, weights.balance != 0);
  Context options = context(&p.refused);
  options.operand_check = check;
  p.pipeline.run(*stream_, groups_->pipeline(), count, weights, options, work);
  return work.sums;
}

EvaluationResult Engine::evaluate(const Validation& validation, std::int64_t num_windows) {
  parts_->panels.begin({promoted_});
  const Context cuts = cuts_of(*recipe_, nullptr);
  Context context;
  context.attention_block = cuts.attention_block;
  context.leaves = cuts.leaves;
  context.panels = &parts_->panels;
  if (operand_probe_) context.after_operand = &operand_probe_;
  context.promoted = promoted_;
  const ForwardPass forward = [&](int count, MicroBatches& batches) {
    parts_->pipeline.evaluate(*stream_, groups_->pipeline(), count, context, batches);
  };
  const Part part{groups_->data().rank(), groups_->data().size(), groups_->tensor().rank() == 0};
  return fourmi::evaluate(forward, *stream_, validation, part, groups_->world(), num_windows,
                          recipe_->data.micro_batch_size);
}

/// Losses, gradient norm and experts' counts of all ranks, in two calls: each takes its latency, whatever it carries.
StepResult Engine::agree(const Sums& sums, const StepPlan& plan) const {
  Parts& p = *parts_;
  double most[3] = {p.optimizer.largest_gradient(*stream_), p.refused ? 1.0 : 0.0, sums.finite ? 0.0 : 1.0};
  p.pipeline.check_exchange();  // before the others hear of gradients that lack something
  {
    const Span span(stream_->timeline(), Work::reduce, "wait_for_ranks");
    groups_->world().all_max(std::span(most));
  }
  const double largest = most[0];
  const bool has_norm = largest != 0 && std::isfinite(largest);
  int exponent = 0;
  if (has_norm) std::frexp(largest, &exponent);
  const std::span<int128> exact(p.agreed);
  exact[0] = sums.loss, exact[1] = sums.loss_mtp, exact[2] = sums.balance;
  exact[3] = has_norm ? p.optimizer.gradient_squares(*stream_, exponent) : 0;
  if (stream_->device() && p.counts_LE.bytes() > 0)
    stream_->device()->read(p.counts_LE.data, p.tables.counts_LE.data, p.counts_LE.bytes());
  if (guidance_) exact[4] = sums.divergence;
  const auto counts = exact.subspan(p.num_sums);
  std::copy_n(p.counts_LE.as<std::int64_t>(), p.counts_LE.num_elements(), counts.begin());
  groups_->world().all_sum(exact);
  std::copy(counts.begin(), counts.end(), p.counts_LE.as<std::int64_t>());

  StepResult result;
  result.targets = plan.num_targets;
  result.tokens = plan.num_inputs;
  const double targets = static_cast<double>(std::max<std::int64_t>(1, plan.num_targets));
  result.loss = most[2] != 0 ? std::nan("") : from_fixed(exact[0]) / targets;
  if (guidance_) {
    // Of rows that the teacher alone teaches there is no cross-entropy.
    const double given = static_cast<double>(std::max<std::int64_t>(1, plan.num_targets - plan.num_rewritten));
    result.loss *= targets / given;
    result.loss_distill = from_fixed(exact[4]) / targets;
    result.tokens_written = plan.num_rewritten;
  }
  result.loss_mtp = from_fixed(exact[1]) / static_cast<double>(std::max<std::int64_t>(1, plan.num_mtp_targets));
  result.loss_balance = from_fixed(exact[2]) / targets;
  result.partial_sum_refused = most[1] != 0;
  const double norm = has_norm ? norm_from(exact[3], exponent) * (1.0 / targets) : largest;
  result.grad_norm = result.partial_sum_refused ? std::nan("") : norm;
  return result;
}

void Engine::begin_gradients() {
  Parts& p = *parts_;
  {
    const OwningSpan span(stream_->timeline(), Work::optimizer, "zero_gradients");
    for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision})
      fill_zero(*stream_, p.store.gradients(set));
    p.optimizer.begin_step(*stream_);
  }
  fill_zero(*stream_, p.tables.counts_LE);
  p.refused = 0;
}

StepResult Engine::step(const Loader& loader, const StepPlan& of_data, std::int64_t step, double tokens_before,
                        const PhaseObserver& observer, const StepJudge& judge) {
  Parts& p = *parts_;
  const StepPlan& plan = with_own_texts(loader, of_data);
  prepare_guidance(loader, plan, tokens_before);
  traffic_.begin_step();
  p.panels.begin({promoted_});  // what was done between the steps decides no call of this one
  if (calls_) calls_->begin_step({num_micro_batches(plan), recipe_->loss.balance_weight.at(tokens_before) != 0});
  begin_gradients();
  const Sums sums = run_micro_batches(loader, plan, step, tokens_before, observer, num_micro_batches(plan), nullptr);

  observer(Phase::optimizer, step);
  p.optimizer.reduce(*stream_, *groups_);
  StepResult result = agree(sums, plan);
  const OptimizerSection& o = recipe_->optimizer;
  const double tokens_after = tokens_before + static_cast<double>(plan.num_inputs);
  result.learning_rate = learning_rate(o, recipe_->schedule, step, tokens_after);
  if (!std::isfinite(result.grad_norm) || !std::isfinite(result.loss)) {
    if (calls_) calls_->check().leave_step();
    find_non_finite(loader, plan, result);
    if (!judge)
      throw Error(ExitStatus::guard, fmt::format("step {}", step),
                  fmt::format("{} (loss {}, gradient norm {}), expected finite numbers", result.non_finite, result.loss,
                              result.grad_norm),
                  "Lower optimizer.learning_rate, or go on from an earlier checkpoint with checkpoint.resume");
  }
  result.updated = !judge || judge(result);
  if (result.updated) {
    const double targets = static_cast<double>(std::max<std::int64_t>(1, plan.num_targets));
    const double clip =
        o.clip_grad_norm > 0 && result.grad_norm > o.clip_grad_norm ? o.clip_grad_norm / result.grad_norm : 1.0;
    const AdamW adamw{.learning_rate = result.learning_rate,
                      .beta1 = o.beta1,
                      .beta2 = o.beta2,
                      .epsilon = o.epsilon,
                      .weight_decay = o.weight_decay,
                      .step = step,
                      .grad_scale = clip / targets};
    p.optimizer.update_and_gather(*stream_, *groups_, adamw, {promoted_});
    if (on_policy_) on_policy_->forget();
    p.panels.begin({promoted_});
  }
  if (on_policy_) result.writing_seconds = on_policy_->seconds();
  result.expert_load_max_over_mean =
      update_router_bias(result.updated ? recipe_->loss.router_bias_rate.at(tokens_before) : 0);
  if (calls_) calls_->check().end_step();
  traffic_.end_step();
  return result;
}

/// b[e] += rate * sign(mean(c) - c[e]) over the counts of the whole global batch (DeepSeek-V3 report 2.1.2). Returns
/// the load figure.
double Engine::update_router_bias(double rate) {
  const Span span(stream_->timeline(), Work::router, "update_router_bias");
  Parts& p = *parts_;
  const Tensor& counts = p.counts_LE;
  if (counts.num_elements() == 0 || recipe_->model.n_routed_experts == 0) return 1;
  const auto* c = counts.as<std::int64_t>();
  const std::int64_t layers = counts.dim(0), E = counts.dim(1);
  const std::vector<Slot>& biases = p.router_biases;
  double worst = 1;
  for (std::int64_t l = 0; l < layers; ++l) {
    const std::int64_t* row = c + l * E;
    const std::int64_t total = std::accumulate(row, row + E, std::int64_t{0});
    if (total > 0)
      worst = std::max(worst, static_cast<double>(*std::max_element(row, row + E)) * static_cast<double>(E) /
                                  static_cast<double>(total));
    if (biases.empty() || rate == 0) continue;
    const OnHost here(*stream_, p.store.weight(biases[static_cast<std::size_t>(l)]), OnHost::Use::both);
    const Tensor& bias = here.tensor();
    for (std::int64_t e = 0; e < E; ++e) {
      // total / E is compared without dividing: integers, so an exactly average expert stays as it is.
      const double change = rate * static_cast<double>((total > row[e] * E) - (total < row[e] * E));
      if (bias.dtype == DType::f64)
        bias.as<double>()[e] += change;
      else
        bias.as<float>()[e] += static_cast<float>(change);
    }
    here.back();
  }
  return worst;
}

std::vector<Box> Engine::boxes() const {
  std::vector<Box> boxes = parts_->optimizer.boxes();
  if (groups_->world().rank() == 0)
    for (const Parameter* p : table_->of(ParameterSet::router_bias))
      boxes.push_back(
          {"/model/" + p->name, "", p->shape, 0, parts_->store.weight(parts_->store.slot(p->name)), 0, device_});
  return boxes;
}

}  // namespace fourmi
