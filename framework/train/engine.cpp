#include "framework/train/engine.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "framework/train/batch_tensors.h"
#include "framework/train/non_finite.h"
#include "framework/train/schedule.h"
#include "kernels/numerics/fixed128.h"
#include "kernels/ops/reduce.h"

namespace fourmi {

namespace {

ModelTypes types_of(const Recipe& r) {
  return model_types(r.precision.compute, r.run.reproducibility);
}

DType moment_dtype(const Recipe& r) {
  return r.precision.moments == Moments::bf16 ? DType::bf16 : types_of(r).accumulate;
}

BatchSizes batch_sizes(const Recipe& r) {
  return {r.data.micro_batch_size * r.data.sequence_length, r.data.sequence_length};
}

/// Mode layout cuts every sum over tokens by 1/16 of a sequence (docs/numerics.md L3, L5); mode run has as few cuts as
/// the work allows.
Context cuts_of(const Recipe& r, std::int32_t* refused) {
  const std::int64_t T = r.data.sequence_length;
  Context c;
  c.attention_block = T <= 64 ? T : std::gcd<std::int64_t, std::int64_t>(T, 64);
  if (r.run.reproducibility == Reproducibility::layout) {
    c.attention_block = T / 16;
    c.weight_cuts = {.rows = T / 16, .row_token = nullptr, .refused = refused};
    c.token_cuts = {.rows = 1, .row_token = nullptr, .refused = refused};
    c.query_leaves = 16;
    if (types_of(r).gradient == DType::fx128) c.leaves = layout_leaves(r.model, r.parallel.tensor);
  }
  return c;
}

/// The arenas for real. What cannot be had is said with all of them, since another may be the one to shrink.
std::unique_ptr<Arenas> allocate(const Arenas& measured, const Recipe& r, int rank) {
  std::int64_t together = 0;
  for (const auto& [name, bytes] : measured.sizes()) together += bytes;
  const std::int64_t machine = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  std::string refused = together > machine ? fmt::format("this machine has {} bytes in all", machine) : "";
  if (refused.empty()) try {
      return std::make_unique<Arenas>(measured);
    } catch (const Error& e) {
      if (e.status() != ExitStatus::environment) throw;
      refused = fmt::format("{} could not be had", e.place());
    }
  std::string table;
  for (const auto& [name, bytes] : measured.sizes())
    if (bytes > 0) table += fmt::format("{}{} {}", table.empty() ? "" : ", ", name, bytes);
  std::string remedy = "Use ";
  if (r.memory.recompute != Recompute::full) remedy += "memory.recompute=full, ";
  if (r.data.micro_batch_size > 1) remedy += "a smaller data.micro_batch_size, ";
  throw Error(ExitStatus::environment, fmt::format("memory of rank {}", rank),
              fmt::format("{}, {} bytes were expected: {}", refused, together, table),
              remedy + "more ranks, or a machine with more memory");
}

}  // namespace

struct Engine::Parts {
  Parts(const Recipe& r, const ParameterTable& table, int rank, int num_ranks, Arenas& arenas)
      : store(table, types_of(r), arenas.weights, &arenas.gradients),
        model(r.model, store, r.data.sequence_length, arenas.weights),
        optimizer(store, moment_dtype(r), r.memory.offload_optimizer, rank, num_ranks, arenas) {
    router_biases = model.router_biases();
    model.allocate(batch_sizes(r), Model::Use::training, arenas.activations, r.memory.recompute);
  }
  ParameterStore store;
  Model model;
  Optimizer optimizer;
  BatchRows rows;
  std::vector<Slot> router_biases;
  std::int32_t refused = 0;
};

/// Sums over the micro-batches of all ranks: exact, so their order does not matter.
struct Engine::Sums {
  int128 loss = 0, loss_mtp = 0, balance = 0;
  bool finite = true;  ///< else some losses are in none of the sums
  void add(const Stream& stream, const Tensor& losses, int128& sum) {
    if (max_abs(stream, losses) < fixed128_limit)  // false for NaN
      sum += sum_fixed(stream, losses);
    else
      finite = false;
  }
};

Engine::Memory Engine::measure(const Recipe& recipe, const ParameterTable& table, int num_ranks) {
  Arenas measured(recipe.memory);
  Parts(recipe, table, Optimizer::rank_with_most(table, num_ranks), num_ranks, measured);
  return measured.sizes();
}

Engine::Engine(const Recipe& recipe, const RankGroups& groups, const Stream& stream)
    : recipe_(&recipe), groups_(&groups), stream_(&stream), table_(std::make_unique<ParameterTable>(recipe.model)) {
  const Group& data = groups.data();
  Arenas measured(recipe.memory);
  Parts(recipe, *table_, data.rank(), data.size(), measured);
  arenas_ = allocate(measured, recipe, groups.world().rank());
  parts_ = std::make_unique<Parts>(recipe, *table_, data.rank(), data.size(), *arenas_);
}

Engine::~Engine() = default;

const ParameterStore& Engine::store() const {
  return parts_->store;
}
std::int64_t Engine::attention_block() const {
  return cuts_of(*recipe_, nullptr).attention_block;
}
Model& Engine::model() {
  return parts_->model;
}
Optimizer& Engine::optimizer() {
  return parts_->optimizer;
}

void Engine::initialise() {
  parts_->optimizer.initialise(*stream_, recipe_->run.seed, recipe_->model.initializer_range);
  fill_zero(*stream_, parts_->store.weights(ParameterSet::router_bias));
  parts_->optimizer.gather_weights(*stream_, groups_->data());
}

void Engine::state_loaded() {
  const Tensor& bias = parts_->store.weights(ParameterSet::router_bias);  // only rank 0's file holds it
  groups_->world().broadcast({static_cast<std::byte*>(bias.data), static_cast<std::size_t>(bias.bytes())}, 0);
  parts_->optimizer.masters_changed(*stream_);
  parts_->optimizer.gather_weights(*stream_, groups_->data());
}

Engine::Sums Engine::run_micro_batches(const Loader& loader, const StepPlan& plan, std::int64_t step,
                                       double tokens_before, const PhaseObserver& observer) {
  Parts& p = *parts_;
  Sums sums;
  const LossWeights weights{recipe_->model.num_nextn_predict_layers ? recipe_->loss.mtp_weight.at(tokens_before) : 0.0,
                            recipe_->loss.balance_weight.at(tokens_before)};
  Context context = cuts_of(*recipe_, &p.refused);
  const std::function<void()> before_backward = [&] { observer(Phase::backward, step); };
  context.before_backward = &before_backward;
  if (probe_) context.after_layer = &probe_;
  const std::int64_t B = recipe_->data.micro_batch_size;
  const std::int64_t count = std::ssize(plan.samples) / groups_->data().size() / B;
  for (std::int64_t i = 0; i < count; ++i) {
    observer(Phase::forward, step);
    {
      const Span span(stream_->timeline(), Work::data, "micro_batch");
      loader.micro_batch(plan, groups_->data().rank(), groups_->data().size(), i, B, p.rows.batch());
    }
    const BatchLosses& losses = p.model.forward_backward(*stream_, p.rows.tensors(), weights, context);
    const OwningSpan span(stream_->timeline(), Work::head, "sum_of_losses");
    sums.add(*stream_, losses.loss_M, sums.loss);
    if (losses.loss_mtp_M) sums.add(*stream_, losses.loss_mtp_M, sums.loss_mtp);
    if (weights.balance != 0)
      for (const Tensor& b : losses.balance_S) sums.add(*stream_, b, sums.balance);
  }
  return sums;
}

StepResult Engine::step(const Loader& loader, const StepPlan& plan, std::int64_t step, double tokens_before,
                        const PhaseObserver& observer, const StepJudge& judge) {
  Parts& p = *parts_;
  {
    const OwningSpan span(stream_->timeline(), Work::optimizer, "zero_gradients");
    for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision})
      fill_zero(*stream_, p.store.gradients(set));
  }
  std::fill_n(p.model.expert_counts().as<std::int64_t>(), p.model.expert_counts().num_elements(), 0);
  p.refused = 0;

  Sums sums = run_micro_batches(loader, plan, step, tokens_before, observer);

  observer(Phase::optimizer, step);
  std::int64_t bad[2] = {p.refused, !sums.finite};
  {
    const Span span(stream_->timeline(), Work::reduce, "wait_for_ranks");
    groups_->world().all_max(std::span(bad));
  }
  int128 exact[3] = {sums.loss, sums.loss_mtp, sums.balance};
  groups_->world().all_sum(std::span(exact));

  StepResult result;
  result.targets = plan.num_targets;
  const double targets = static_cast<double>(std::max<std::int64_t>(1, plan.num_targets));
  result.loss = bad[1] ? std::nan("") : from_fixed(exact[0]) / targets;
  result.loss_mtp = from_fixed(exact[1]) / static_cast<double>(std::max<std::int64_t>(1, plan.num_mtp_targets));
  result.loss_balance = from_fixed(exact[2]) / targets;

  p.optimizer.reduce(*stream_, groups_->data());
  const double norm = p.optimizer.gradient_norm(*stream_, groups_->world(), 1.0 / targets);
  result.grad_norm = bad[0] ? std::nan("") : norm;
  const OptimizerSection& o = recipe_->optimizer;
  const double tokens_after = tokens_before + static_cast<double>(plan.num_targets);
  result.learning_rate = learning_rate(o, recipe_->schedule, step, tokens_after);
  if (!std::isfinite(result.grad_norm) || !std::isfinite(result.loss)) {
    find_non_finite(loader, plan, bad[0] != 0, result);
    if (!judge)
      throw Error(ExitStatus::guard, fmt::format("step {}", step),
                  fmt::format("{} (loss {}, gradient norm {}), expected finite numbers", result.non_finite, result.loss,
                              result.grad_norm),
                  "Lower optimizer.learning_rate, or go on from an earlier checkpoint with checkpoint.resume");
  }
  result.updated = !judge || judge(result);
  if (result.updated) {
    const double clip =
        o.clip_grad_norm > 0 && result.grad_norm > o.clip_grad_norm ? o.clip_grad_norm / result.grad_norm : 1.0;
    p.optimizer.update(*stream_, {.learning_rate = result.learning_rate,
                                  .beta1 = o.beta1,
                                  .beta2 = o.beta2,
                                  .epsilon = o.epsilon,
                                  .weight_decay = o.weight_decay,
                                  .step = step,
                                  .grad_scale = clip / targets});
    p.optimizer.gather_weights(*stream_, groups_->data());
  }
  result.expert_load_max_over_mean =
      update_router_bias(result.updated ? recipe_->loss.router_bias_rate.at(tokens_before) : 0);
  return result;
}

/// Weights first: what is bad there spoils all else. Then the forward passes again, layer by layer; then the gradients
/// before their sum.
void Engine::find_non_finite(const Loader& loader, const StepPlan& plan, bool partial_sum_refused, StepResult& result) {
  Parts& p = *parts_;
  NonFinite find = find_in_weights(*stream_, p.store);
  result.state_is_bad = first_kind(groups_->world(), find) == NonFinite::Kind::weight;
  if (find.kind == NonFinite::Kind::none) find = find_in_forward(loader, plan);
  // Exact sums hold integers: what did not fit was left out of them.
  const bool exact = p.store.types().gradient == DType::fx128;
  if (find.kind == NonFinite::Kind::none && !exact) find = find_in_gradients(*stream_, p.store);
  if (find.kind == NonFinite::Kind::none && partial_sum_refused && p.refused)
    find = {.kind = NonFinite::Kind::gradient, .which = -1};
  result.non_finite = tell_first(groups_->world(), p.store, find);
}

NonFinite Engine::find_in_forward(const Loader& loader, const StepPlan& plan) {
  Parts& p = *parts_;
  NonFinite find;
  std::int64_t micro_batch = 0;
  const ActivationProbe look = [&](std::int64_t layer, const Tensor& output) {
    if (probe_) probe_(layer, output);
    if (find.kind != NonFinite::Kind::none) return;
    if (const auto bad = first_non_finite(*stream_, output))
      find = {.kind = NonFinite::Kind::activation,
              .order = micro_batch,
              .which = layer,
              .micro_batch = micro_batch,
              .index = bad->index,
              .value = bad->value};
  };
  Context context = cuts_of(*recipe_, nullptr);
  context.after_layer = &look;
  const std::int64_t B = recipe_->data.micro_batch_size;
  const std::int64_t count = std::ssize(plan.samples) / groups_->data().size() / B;
  for (; micro_batch < count && find.kind == NonFinite::Kind::none; ++micro_batch) {
    loader.micro_batch(plan, groups_->data().rank(), groups_->data().size(), micro_batch, B, p.rows.batch());
    const BatchLosses losses = p.model.forward(*stream_, p.rows.tensors(), context);
    for (const Tensor& loss : {losses.loss_M, losses.loss_mtp_M}) {
      if (!loss || find.kind != NonFinite::Kind::none) continue;
      if (const auto bad = first_non_finite(*stream_, loss))
        find = {.kind = NonFinite::Kind::loss,
                .order = micro_batch,
                .micro_batch = micro_batch,
                .index = bad->index,
                .value = bad->value};
    }
  }
  return find;
}

/// b[e] += rate * sign(mean(c) - c[e]) over the counts of the whole global batch (DeepSeek-V3 report 2.1.2). Returns
/// the load figure.
double Engine::update_router_bias(double rate) {
  const Span span(stream_->timeline(), Work::router, "update_router_bias");
  Parts& p = *parts_;
  const Tensor& counts = p.model.expert_counts();
  if (counts.num_elements() == 0 || recipe_->model.n_routed_experts == 0) return 1;
  auto* c = counts.as<std::int64_t>();
  groups_->data().all_sum(std::span(c, static_cast<std::size_t>(counts.num_elements())));
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
    const Tensor bias = p.store.weight(biases[static_cast<std::size_t>(l)]);
    for (std::int64_t e = 0; e < E; ++e) {
      // total / E is compared without dividing: integers, so an exactly average expert stays as it is.
      const double change = rate * static_cast<double>((total > row[e] * E) - (total < row[e] * E));
      if (bias.dtype == DType::f64)
        bias.as<double>()[e] += change;
      else
        bias.as<float>()[e] += static_cast<float>(change);
    }
  }
  return worst;
}

std::vector<Box> Engine::boxes() const {
  std::vector<Box> boxes = parts_->optimizer.boxes();
  if (groups_->world().rank() == 0)
    for (const Parameter* p : table_->of(ParameterSet::router_bias))
      boxes.push_back({"/model/" + p->name, "", p->shape, 0, parts_->store.weight(parts_->store.slot(p->name))});
  return boxes;
}

}  // namespace fourmi
