#include "framework/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/ops/reduce.h"

namespace fourmi {

namespace {

std::vector<ShardTensor> shard_tensors(const std::vector<const Parameter*>& parameters) {
  std::vector<ShardTensor> tensors;
  for (const Parameter* p : parameters) tensors.push_back({p->name, p->shape, p->offset});
  return tensors;
}

Tensor elements(const Tensor& packed, const RowRun& run) {
  return packed.rows(run.offset, run.offset + run.num_elements);
}

/// The rows of a run under their parameter's own shape.
Tensor as_rows(const Tensor& packed, const Parameter& p, const RowRun& run) {
  Shape shape = p.shape;
  shape.dims[0] = run.num_rows;
  return elements(packed, run).view(shape);
}

constexpr std::int64_t most_scratch = std::int64_t{64} << 20;  // more rounds of all-to-all beyond this

}  // namespace

Optimizer::Optimizer(const ParameterStore& store, DType moment_dtype, bool staged, int rank, int num_ranks,
                     Arenas& arenas)
    : store_(&store), rank_(rank) {
  std::int64_t scratch = 0, largest = 0;
  for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision}) {
    std::vector<const Parameter*> parameters = store.table().of(set);
    ShardPlan plan(shard_tensors(parameters), num_ranks);
    const Shape n{plan.shard_elements(rank)};
    const DType master = store.types().accumulate;
    for (const RowRun& run : plan.runs(rank)) largest = std::max(largest, run.num_elements);
    Shard s{set, std::move(parameters), std::move(plan), {}, {}, {}};
    s.gradient = arenas.gradients.allocate(n, master, "shard");
    s.state.master = arenas.optimizer.allocate(n, master, "master");
    s.state.exp_avg = arenas.optimizer.allocate(n, moment_dtype, "exp_avg");
    s.state.exp_avg_sq = arenas.optimizer.allocate(n, moment_dtype, "exp_avg_sq");
    s.weight = arenas.communication.allocate(n, store.weights(set).dtype, "shard of weights");
    scratch = std::max(
        {scratch, zero_scratch_bytes(s.plan, store.types().gradient), zero_scratch_bytes(s.plan, s.weight.dtype)});
    shards_.push_back(std::move(s));
  }
  if (staged) staging_.emplace(store.types().accumulate, moment_dtype, largest, arenas.staging);
  scratch_ = arenas.communication.allocate({std::min(scratch, most_scratch)}, DType::u8, "scratch");
}

int Optimizer::rank_with_most(const ParameterTable& table, int num_ranks) {
  const ShardPlan plan(shard_tensors(table.of(ParameterSet::matrices)), num_ranks);
  int most = 0;
  for (int rank = 1; rank < num_ranks; ++rank)
    if (plan.shard_elements(rank) > plan.shard_elements(most)) most = rank;
  return most;
}

void Optimizer::initialise(const Stream& stream, std::uint64_t seed, double initializer_range) {
  runs([&](const Shard& s, const Parameter& p, const RowRun& run) {
    initialise_rows(p, seed, initializer_range, run.first_row, as_rows(s.state.master, p, run));
  });
  for (const Shard& s : shards_) {
    fill_zero(stream, s.state.exp_avg);
    fill_zero(stream, s.state.exp_avg_sq);
  }
  masters_changed(stream);
}

void Optimizer::masters_changed(const Stream& stream) {
  for (const Shard& s : shards_)
    on_device(stream, {s.state.master, {}, {}}, Staging::Back::no,
              [&](std::int64_t begin, std::int64_t end, const OptimizerState& state) {
                convert(stream, state.master, s.weight.rows(begin, end));
              });
}

void Optimizer::reduce(const Stream& stream, Group& group) {
  const OwningSpan span(stream.timeline(), Work::reduce, "reduce_scatter");
  for (const Shard& s : shards_)
    reduce_scatter_gradients(group, s.plan, store_->gradients(s.set), s.gradient, scratch_);
}

double Optimizer::gradient_norm(const Stream& stream, Group& group, double scale) const {
  const OwningSpan span(stream.timeline(), Work::optimizer, "gradient_norm");
  double largest = 0;
  for (const Shard& s : shards_) {
    const double here = max_abs(stream, s.gradient);
    largest = std::isnan(here) || std::isnan(largest) ? std::nan("") : std::max(largest, here);
  }
  group.all_max(std::span(&largest, 1));
  if (largest == 0 || !std::isfinite(largest)) return largest;
  int exponent = 0;
  std::frexp(largest, &exponent);
  int128 total = 0;
  for (const Shard& s : shards_) total += sum_squares(stream, s.gradient, exponent);
  group.all_sum(std::span(&total, 1));
  return norm_from(total, exponent) * scale;
}

void Optimizer::update(const Stream& stream, const AdamW& options) {
  const OwningSpan span(stream.timeline(), Work::optimizer, "update");
  runs([&](const Shard& s, const Parameter& p, const RowRun& run) {
    AdamW o = options;
    if (!p.weight_decay) o.weight_decay = 0;
    const OptimizerState mine = s.state.rows(run.offset, run.offset + run.num_elements);
    on_device(stream, mine, Staging::Back::yes, [&](std::int64_t begin, std::int64_t end, const OptimizerState& state) {
      const auto part = [&](const Tensor& t) { return elements(t, run).rows(begin, end); };
      adamw_step(stream, o, part(s.gradient), state.master, state.exp_avg, state.exp_avg_sq, part(s.weight));
    });
  });
}

void Optimizer::gather_weights(const Stream& stream, Group& group) {
  const OwningSpan span(stream.timeline(), Work::gather, "all_gather");
  for (const Shard& s : shards_) all_gather_parameters(group, s.plan, s.weight, store_->weights(s.set), scratch_);
}

void Optimizer::visit_gradients(const std::function<void(const Parameter&, std::int64_t, const Tensor&)>& visit) const {
  runs([&](const Shard& s, const Parameter& p, const RowRun& run) {
    visit(p, run.first_row, as_rows(s.gradient, p, run));
  });
}

std::vector<Box> Optimizer::boxes() const {
  std::vector<Box> boxes;
  runs([&](const Shard& s, const Parameter& p, const RowRun& run) {
    // The model's weights are the masters rounded once, so the same bytes serve under both names.
    boxes.push_back(
        {"/optimizer/master/" + p.name, "/model/" + p.name, p.shape, run.first_row, as_rows(s.state.master, p, run)});
    boxes.push_back({"/optimizer/exp_avg/" + p.name, "", p.shape, run.first_row, as_rows(s.state.exp_avg, p, run)});
    boxes.push_back(
        {"/optimizer/exp_avg_sq/" + p.name, "", p.shape, run.first_row, as_rows(s.state.exp_avg_sq, p, run)});
  });
  return boxes;
}

}  // namespace fourmi
