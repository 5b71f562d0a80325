#include "framework/model/expert_ranks.h"

#include <algorithm>
#include <cmath>

#include "kernels/exchange/size_on_card.h"

namespace fourmi {

namespace {

DispatchMethod method_of(const ParallelSection& p) {
  if (p.dispatcher == "device")
    return p.dispatch_node_size.value_or(p.expert) < p.expert ? DispatchMethod::rail : DispatchMethod::device;
  const bool nodes = p.dispatcher == "hierarchical" || (p.dispatcher == "auto" && p.dispatch_node_size);
  return nodes ? DispatchMethod::hierarchical : DispatchMethod::all_to_all;
}

}  // namespace

DispatchOptions ExpertRanks::options(const ModelSection& m, std::int64_t tokens, DType accumulate) const {
  const std::int64_t K = m.num_experts_per_tok;
  DispatchOptions o{.num_experts = m.n_routed_experts,
                    .num_choices = K,
                    .max_tokens = tokens,
                    .row_bytes = std::max(m.hidden_size, K) * size_of(accumulate),
                    .weights = accumulate};
  o.node_size = node_size, o.patience = patience;
  if (method == DispatchMethod::device && on_card) {
    o.on_card = true;
    o.num_channels = exchange::size_on_card(size, {}, multiprocessors).num_channels;
  }
  if (bound == 0) return o;
  // A row travels for one choice at least, so one bound serves both.
  o.max_choices = static_cast<std::int64_t>(std::floor(bound * static_cast<double>(tokens * K)));
  o.max_rows = o.max_choices;
  o.block = block;
  return o;
}

std::int64_t ExpertRanks::most_rows(const ModelSection& m, std::int64_t tokens, DType accumulate) const {
  if (alone()) return tokens * m.num_experts_per_tok;
  return dispatch_sizes(method, size, options(m, tokens, accumulate)).most_choices;
}

ExpertRanks expert_ranks(const Recipe& r) {
  const ParallelSection& p = r.parallel;
  const std::int64_t T = r.data.sequence_length;
  return {.size = static_cast<int>(p.expert),
          .tensor = static_cast<int>(p.expert_tensor),
          .method = method_of(p),
          .node_size = static_cast<int>(p.dispatch_node_size.value_or(1)),
          .patience = std::chrono::milliseconds(static_cast<std::int64_t>(std::min(r.guard.hang_seconds, 1e9) * 1000)),
          .on_card = r.run.device == DeviceChoice::cuda,
          .multiprocessors = static_cast<int>(p.dispatch_multiprocessors.value_or(0)),
          .bound = p.dispatch_bound.value_or(0),
          .block = T % 16 == 0 ? T / 16 : T,
          .cut = r.run.reproducibility == Reproducibility::layout};
}

}  // namespace fourmi
