#include "framework/train/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/ops/quantize.h"
#include "kernels/ops/reduce.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

namespace {

/// Offsets are those in the region.
std::vector<ShardTensor> shard_tensors(const std::vector<const Parameter*>& parameters, const Region& region) {
  std::vector<ShardTensor> tensors;
  for (const Parameter* p : parameters) tensors.push_back({p->name, p->local, p->offset - region.begin});
  return tensors;
}

Tensor elements(const Tensor& packed, const RowRun& run) {
  return packed.rows(run.offset, run.offset + run.num_elements);
}

/// The rows of a run under the shape of the part that this rank holds.
Tensor as_rows(const Tensor& packed, const Parameter& p, const RowRun& run) {
  Shape shape = p.local;
  shape.dims[0] = run.num_rows;
  return elements(packed, run).view(shape);
}

constexpr std::int64_t most_scratch = std::int64_t{64} << 20;  // more rounds of all-to-all beyond this

}  // namespace

Optimizer::Optimizer(const ParameterStore& store, DType moment_dtype, bool staged, const Memberships& members,
                     Arenas& arenas)
    : store_(&store), device_(arenas.weights.runtime()) {
  visit_plans(store.table(), store.types(), store.level(), members,
              [&](const Region& region, std::vector<const Parameter*> parameters, ShardPlan plan, Member member) {
                add_shard(region, std::move(parameters), std::move(plan), moment_dtype, member.rank, arenas);
              });
  std::int64_t scratch = 0, largest = 0;
  for (const Shard& s : shards_) {
    scratch = std::max(scratch, s.scratch);
    for (const RowRun& run : s.plan.runs(s.rank)) largest = std::max(largest, run.num_elements);
  }
  if (staged) staging_.emplace(store.types().accumulate, moment_dtype, largest, arenas.staging);
  if (store.types().weight_over == ScaleOver::tensor)
    largest_1_ = arenas.communication.allocate({1}, DType::f32, "largest magnitude of a matrix");
  scratch_ = arenas.communication.allocate({scratch}, DType::u8, "scratch");
}

void Optimizer::visit_plans(const ParameterTable& table, const ModelTypes& types, ZeroLevel level,
                            const Memberships& members, const PlanVisitor& visit) {
  for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision})
    for (const Region& region : table.regions(set, ParameterStore::by_layer(set, types, level)))
      for (bool stage_copies : {false, true})
        for (Copies copies : all_copies) {
          std::vector<const Parameter*> parameters = table.of(set);
          std::erase_if(parameters, [&](const Parameter* p) {
            return p->stage_copies != stage_copies || p->copies != copies || p->offset < region.begin ||
                   p->offset >= region.end;
          });
          if (parameters.empty()) continue;
          const Member member = members.of(*parameters.front());
          ShardPlan plan(shard_tensors(parameters, region), member.size);
          visit(region, std::move(parameters), std::move(plan), member);
        }
}

std::int64_t Optimizer::scratch_bytes(const ShardPlan& plan, DType gradient, DType weight) {
  return std::min(most_scratch, std::max(zero_scratch_bytes(plan, gradient), zero_scratch_bytes(plan, weight)));
}

/// Of the parameters of one group of ranks.
void Optimizer::add_shard(const Region& region, std::vector<const Parameter*> parameters, ShardPlan plan,
                          DType moment_dtype, int rank, Arenas& arenas) {
  const Parameter& first = *parameters.front();
  const Shape n{plan.shard_elements(rank)};
  const DType master = store_->types().accumulate;
  Shard s{region,
          first.copies,
          first.stage_copies,
          rank,
          std::move(parameters),
          std::move(plan),
          {},
          {},
          -1,
          {},
          {},
          {},
          {},
          {},
          0};
  s.gradient = arenas.gradients.allocate(n, master, "shard");
  const DType partial = store_->types().gradient;
  if (summed_in_step(s)) s.sum = partial == master ? s.gradient : arenas.gradients.allocate(n, partial, "shard, exact");
  s.state.master = arenas.optimizer.allocate(n, master, "master");
  s.state.exp_avg = arenas.optimizer.allocate(n, moment_dtype, "exp_avg");
  s.state.exp_avg_sq = arenas.optimizer.allocate(n, moment_dtype, "exp_avg_sq");
  s.weight = arenas.communication.allocate(n, store_->weights(region.set).dtype, "shard of weights");
  s.scratch = scratch_bytes(s.plan, partial, s.weight.dtype);
  if (store_->has_copy(region)) {
    const ScaledCopies& copies = store_->copies();
    std::vector<std::int64_t> first_byte;
    for (const Parameter* p : s.parameters) first_byte.push_back(copies.first_byte(region, p->offset));
    s.bytes = byte_owners(s.plan, copies.dtype(), first_byte);
    if (s.plan.group_size() > 1 || gathered_in_step(s))
      s.scaled = arenas.communication.allocate({s.bytes->num_elements(rank)}, DType::u8, "shard of FP8 copies");
    if (store_->types().weight_over == ScaleOver::tensor) s.largest.resize(s.parameters.size());
  }
  shards_.push_back(std::move(s));
}

std::int64_t Optimizer::num_masters(const ParameterTable& table, const ModelTypes& types, ZeroLevel level,
                                    const Memberships& members) {
  std::int64_t num = 0;
  visit_plans(table, types, level, members, [&](const auto&, const auto&, const ShardPlan& plan, Member member) {
    num += plan.shard_elements(member.rank);
  });
  return num;
}

void Optimizer::initialise(const Stream& stream, std::uint64_t seed, double initializer_range) {
  runs([&](const Shard& s, const Parameter& p, const RowRun& run) {
    const OnHost rows(device_, as_rows(s.state.master, p, run), OnHost::Use::fill);
    initialise_rows(p, seed, initializer_range, run.first_row, rows.tensor());
    rows.back();
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

void Optimizer::begin_step(const Stream& stream) {
  for (const Shard& s : shards_)
    if (s.sum) fill_zero(stream, s.sum);
}

void Optimizer::reduce_layer(const Stream& stream, const RankGroups& groups, std::int64_t layer) {
  const OwningSpan span(stream.timeline(), Work::reduce, "reduce_scatter", layer);
  for (const Shard& s : shards_)
    if (s.region.layer == layer)
      reduce_scatter_gradients(stream, group_of(s, groups), s.plan, store_->gradients(s.region), s.sum,
                               scratch_.rows(0, s.scratch), Into::add);
  for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision})
    for (const Region& r : store_->regions(set))
      if (r.layer == layer) fill_zero(stream, store_->gradients(r));
}

int128 Optimizer::gradient_squares(const Stream& stream, int exponent) const {
  const OwningSpan span(stream.timeline(), Work::optimizer, "gradient_squares");
  int128 total = 0;
  for (const Shard& s : shards_) total += sum_squares(stream, s.gradient, exponent);
  return total;
}

void Optimizer::quantise(const Stream& stream, const RankGroups& groups) {
  const ModelTypes& types = store_->types();
  for (Shard& s : shards_) {
    if (!s.bytes) continue;
    const auto rows_of = [&](const RowRun& run) { return as_rows(s.weight, *s.parameters[run.tensor], run); };
    const auto all_of = [](const Tensor& rows) {
      return std::array<std::int32_t, 2>{0, static_cast<std::int32_t>(rows.dim(0))};
    };
    if (!s.largest.empty()) {
      std::fill(s.largest.begin(), s.largest.end(), 0.0);
      for (const RowRun& run : s.plan.runs(s.rank)) {
        largest_magnitudes(stream, rows_of(run), all_of(rows_of(run)), largest_1_);
        s.largest[run.tensor] = static_cast<double>(*OnHost(device_, largest_1_).tensor().as<float>());
      }
      if (s.plan.group_size() > 1) group_of(s, groups).all_max(std::span(s.largest));
    }
    std::int64_t packed = 0;
    for (const RowRun& run : s.plan.runs(s.rank)) {
      const Parameter& p = *s.parameters[run.tensor];
      const Tensor rows = rows_of(run);
      // One rank's copies are the store's where layers do not take turns.
      const Tensor q =
          s.scaled ? Tensor(static_cast<std::uint8_t*>(s.scaled.data) + packed, types.matrix, rows.shape, rows.device)
                   : store_->copies().of(p.offset, p.local);
      packed += q.bytes();
      if (s.largest.empty()) {
        quantize(stream, rows, q, types.weight_scaling);
      } else {
        const OnHost largest(device_, largest_1_, OnHost::Use::fill);
        *largest.tensor().as<float>() = static_cast<float>(s.largest[run.tensor]);
        largest.back();
        quantize_by(stream, rows, q, types.weight_scaling, all_of(rows), largest_1_);
      }
    }
  }
}

void Optimizer::gather_weight(const Stream& stream, const Shard& s, const RankGroups& groups,
                              const std::function<void()>& meanwhile) const {
  all_gather_parameters(stream, group_of(s, groups), s.plan, s.weight, store_->weights(s.region),
                        scratch_.rows(0, s.scratch), meanwhile);
}

void Optimizer::gather(const Stream& stream, const Shard& s, const RankGroups& groups, const WeightForms& forms) const {
  if (!s.bytes || forms.in_full(s.region.layer)) gather_weight(stream, s, groups);
  if (s.scaled && forms.scaled(s.region.layer))
    all_gather(stream, group_of(s, groups), *s.bytes, s.scaled, store_->copies().memory(s.region),
               scratch_.rows(0, s.scratch));
}

void Optimizer::derive(const Stream& stream, const Region& r, const WeightForms& forms) const {
  if (store_->has_copy(r) && forms.scaled(r.layer)) store_->copies().derive(stream, r);
}

void Optimizer::gather_weights(const Stream& stream, const RankGroups& groups, const WeightForms& forms) {
  {
    const OwningSpan span(stream.timeline(), Work::quantise, "quantise_weights");
    quantise(stream, groups);
  }
  const OwningSpan span(stream.timeline(), Work::gather, "all_gather");
  for (const Shard& s : shards_)
    if (!gathered_in_step(s)) gather(stream, s, groups, forms);
  if (store_->level() == ZeroLevel::weights) return;
  for (const Region& r : store_->regions(ParameterSet::matrices)) derive(stream, r, forms);
}

void Optimizer::gather_layer(const Stream& stream, const RankGroups& groups, std::int64_t layer,
                             const WeightForms& forms) {
  const OwningSpan span(stream.timeline(), Work::gather, "all_gather", layer);
  for (const Shard& s : shards_)
    if (s.region.layer == layer) gather(stream, s, groups, forms);
  for (const Region& r : store_->regions(ParameterSet::matrices))
    if (r.layer == layer) derive(stream, r, forms);
}

void Optimizer::gather_in_full(const Stream& stream, const RankGroups& groups) {
  const OwningSpan span(stream.timeline(), Work::gather, "all_gather");
  for (const Shard& s : shards_)
    if (s.bytes) gather_weight(stream, s, groups);
}

void Optimizer::visit_gradients(const std::function<void(const Parameter&, std::int64_t, const Tensor&)>& visit) const {
  runs([&](const Shard& s, const Parameter& p, const RowRun& run) {
    visit(p, run.first_row, as_rows(s.gradient, p, run));
  });
}

void Optimizer::visit_rows(const std::function<void(const Parameter&, std::int64_t, std::int64_t)>& visit) const {
  runs([&](const Shard&, const Parameter& p, const RowRun& run) { visit(p, run.first_row, run.num_rows); });
}

void Optimizer::visit_weights(const std::function<void(const Parameter&, std::int64_t, const Tensor&)>& visit) const {
  runs([&](const Shard& s, const Parameter& p, const RowRun& run) {
    visit(p, run.first_row, as_rows(s.weight, p, run));
  });
}

std::vector<Box> Optimizer::boxes() const {
  std::vector<Box> boxes;
  runs([&](const Shard& s, const Parameter& p, const RowRun& run) {
    const auto add = [&](const char* prefix, const std::string& alias, const Tensor& packed) {
      boxes.push_back({prefix + p.name, alias, p.shape, p.first_row + run.first_row, as_rows(packed, p, run),
                       p.first_column, packed.device == Device::cpu ? nullptr : device_});
    };
    // The model's weights are the masters rounded once, so the same bytes serve under both names.
    add("/optimizer/master/", "/model/" + p.name, s.state.master);
    add("/optimizer/exp_avg/", "", s.state.exp_avg);
    add("/optimizer/exp_avg_sq/", "", s.state.exp_avg_sq);
  });
  return boxes;
}

}  // namespace fourmi
