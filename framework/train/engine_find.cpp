// Where a number that is not finite came from.
#include "framework/train/engine_parts.h"

namespace fourmi {

/// Weights first: what is bad there spoils all else. Then the forward passes again, layer by layer; then the gradients
/// before their sum.
void Engine::find_non_finite(const Loader& loader, const StepPlan& plan, StepResult& result) {
  Parts& p = *parts_;
  NonFinite find = find_in_weights();
  result.state_is_bad = first_kind(groups_->world(), find) == NonFinite::Kind::weight;
  if (!result.state_is_bad) find = find_in_forward(loader, plan);  // stages wait for one another: all ranks or none
  // Exact sums hold integers: what did not fit was left out of them.
  const bool exact = p.store.types().gradient == DType::fx128;
  if (find.kind == NonFinite::Kind::none && !exact) find = find_in_gradients();
  if (find.kind == NonFinite::Kind::none && result.partial_sum_refused && p.refused)
    find = {.kind = NonFinite::Kind::gradient, .which = -1};
  result.non_finite = tell_first(groups_->world(), *table_, find);
}

/// What is not there whole is looked for by its owners.
NonFinite Engine::find_in_weights() {
  const ParameterStore& store = parts_->store;
  const auto in_turn = [&](const Parameter& p) { return p.layer >= 0 && store.level() >= ZeroLevel::weights; };
  NonFiniteSearch search(*stream_, *table_, NonFinite::Kind::weight);
  for (const Parameter& p : store.table().all())
    if (p.set == ParameterSet::router_bias || !in_turn(p)) search.look(p, 0, store.weight(store.slot(p.name)));
  parts_->optimizer.visit_weights([&](const Parameter& p, std::int64_t first_row, const Tensor& rows) {
    if (in_turn(p)) search.look(p, first_row, rows);
  });
  return search.find();
}

/// Before their sum over ranks, so that the rank is known; layers that take turns after it.
NonFinite Engine::find_in_gradients() {
  const ParameterStore& store = parts_->store;
  const auto in_turn = [&](const Parameter& p) { return p.layer >= 0 && store.level() >= ZeroLevel::gradients; };
  NonFiniteSearch search(*stream_, *table_, NonFinite::Kind::gradient);
  for (const Parameter& p : store.table().all())
    if (p.set != ParameterSet::router_bias && !in_turn(p)) search.look(p, 0, store.gradient(store.slot(p.name)));
  parts_->optimizer.visit_gradients([&](const Parameter& p, std::int64_t first_row, const Tensor& rows) {
    if (in_turn(p)) search.look(p, first_row, rows, true);
  });
  return search.find();
}

/// Looks at what each layer gives, until something is found.
class Engine::Probe : public MicroBatches {
 public:
  Probe(Engine& engine, const Loader& loader, const StepPlan& plan) : engine_(engine), loader_(loader), plan_(plan) {}
  void fill(int index, Batch& batch) override {
    micro_batch_ = index;
    const Group& data = engine_.groups_->data();
    loader_.micro_batch(plan_, data.rank(), data.size(), index, engine_.recipe_->data.micro_batch_size, batch);
  }
  void look(std::int64_t layer, const Tensor& output) {
    if (engine_.probe_) engine_.probe_(layer, output);
    note(NonFinite::Kind::activation, layer, output);
  }
  void take(const BatchLosses& losses, const BatchTensors&) override {
    for (const Tensor& loss : {losses.loss_M, losses.loss_mtp_M})
      if (loss) note(NonFinite::Kind::loss, 0, loss);
  }
  NonFinite find;

 private:
  void note(NonFinite::Kind kind, std::int64_t which, const Tensor& x) {
    if (find.kind != NonFinite::Kind::none) return;
    if (const auto bad = first_non_finite(*engine_.stream_, x))
      find = {.kind = kind,
              .order = micro_batch_,
              .which = which,
              .micro_batch = micro_batch_,
              .index = bad->index,
              .value = bad->value};
  }

  Engine& engine_;
  const Loader& loader_;
  const StepPlan& plan_;
  std::int64_t micro_batch_ = 0;
};

NonFinite Engine::find_in_forward(const Loader& loader, const StepPlan& plan) {
  Probe probe(*this, loader, plan);
  const ActivationProbe look = [&](std::int64_t layer, const Tensor& output) { probe.look(layer, output); };
  Context options = context(nullptr);
  options.after_layer = &look;
  parts_->pipeline.evaluate(*stream_, groups_->pipeline(), num_micro_batches(plan), options, probe);
  return probe.find;
}

}  // namespace fourmi
