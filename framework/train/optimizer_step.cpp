// What a rank does for itself while its gradients and weights travel.
#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "framework/train/optimizer.h"
#include "kernels/ops/reduce.h"

namespace fourmi {

void Optimizer::measure(const Stream& stream, Shard& s) {
  const OwningSpan span(stream.timeline(), Work::optimizer, "largest_gradient");
  s.magnitude = max_abs(stream, s.gradient);
}

/// The summed gradient into the shard.
void Optimizer::take_sum(const Stream& stream, Shard& s, const RankGroups& groups,
                         const std::function<void()>& meanwhile) {
  if (!summed_in_step(s))
    reduce_scatter_gradients(stream, group_of(s, groups), s.plan, store_->gradients(s.region), s.gradient,
                             scratch_.rows(0, s.scratch), Into::write, meanwhile);
  else if (s.sum.data != s.gradient.data)
    convert(stream, s.sum, s.gradient);
}

void Optimizer::reduce(const Stream& stream, const RankGroups& groups) {
  const Span span(stream.timeline(), Work::reduce, "reduce_scatter");
  const auto travels = [&](const Shard& s) { return !summed_in_step(s) && s.plan.group_size() > 1; };
  for (Shard& s : shards_) s.magnitude = -1;
  bool others_done = false;
  const auto others = [&] {
    if (std::exchange(others_done, true)) return;
    for (Shard& s : shards_) {
      if (travels(s)) continue;
      take_sum(stream, s, groups);
      if (!stream.device()) measure(stream, s);  // a device's host would wait, and start the next rounds late
    }
  };
  for (Shard& s : shards_)
    if (travels(s)) take_sum(stream, s, groups, std::ref(others));
  others();
}

double Optimizer::largest_gradient(const Stream& stream) const {
  const OwningSpan span(stream.timeline(), Work::optimizer, "largest_gradient");
  double largest = 0;
  for (const Shard& s : shards_) {
    const double here = s.magnitude < 0 ? max_abs(stream, s.gradient) : s.magnitude;
    largest = std::isnan(here) || std::isnan(largest) ? std::nan("") : std::max(largest, here);
  }
  return largest;
}

void Optimizer::update(const Stream& stream, Shard& s, const AdamW& options) {
  const OwningSpan span(stream.timeline(), Work::optimizer, "update");
  for (const RowRun& run : s.plan.runs(s.rank)) {
    AdamW o = options;
    if (!s.parameters[run.tensor]->weight_decay) o.weight_decay = 0;
    const std::int64_t first = run.offset;
    const OptimizerState mine = s.state.rows(first, first + run.num_elements);
    on_device(stream, mine, Staging::Back::yes, [&](std::int64_t begin, std::int64_t end, const OptimizerState& state) {
      const auto part = [&](const Tensor& t) { return t.rows(first + begin, first + end); };
      adamw_step(stream, o, part(s.gradient), state.master, state.exp_avg, state.exp_avg_sq, part(s.weight));
    });
  }
}

void Optimizer::update_and_gather(const Stream& stream, const RankGroups& groups, const AdamW& options,
                                  const WeightForms& forms) {
  // Ranks agree on the scales of whole matrices before anything of these is gathered.
  if (std::any_of(shards_.begin(), shards_.end(), [](const Shard& s) { return s.bytes.has_value(); })) {
    for (Shard& s : shards_) update(stream, s, options);
    return gather_weights(stream, groups, forms);
  }
  const Span span(stream.timeline(), Work::gather, "all_gather");
  const auto travels = [&](const Shard& s) { return !gathered_in_step(s) && s.plan.group_size() > 1; };
  std::size_t next = 0;  // behind the last shard that travels and is updated
  const auto update_next = [&] {
    while (next < shards_.size() && !travels(shards_[next])) ++next;
    if (next == shards_.size()) return false;
    update(stream, shards_[next++], options);
    return true;
  };
  bool others_done = false;
  const auto others = [&] {
    if (std::exchange(others_done, true)) return;
    for (Shard& s : shards_) {
      if (travels(s)) continue;
      update(stream, s, options);
      if (!gathered_in_step(s)) gather_weight(stream, s, groups);
    }
  };
  const auto meanwhile = [&] {
    if (!update_next()) others();
  };
  update_next();
  for (const Shard& s : shards_)
    if (travels(s)) gather_weight(stream, s, groups, std::ref(meanwhile));
  others();
}

}  // namespace fourmi
