#include "framework/recipe/check_expert.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "framework/recipe/cut_units.h"
#include "kernels/exchange/host_agent.h"
#include "kernels/runtime/error.h"
#include "parallel/share.h"

namespace fourmi::recipe {

namespace {

constexpr std::int64_t most_device_choices = exchange::HostAgent::most_choices;

/// Does the group of the expert axis divide into such nodes?
void node_issues(const ParallelSection& p, const RefuseExpert& refuse) {
  const char* key = "parallel.dispatch_node_size";
  const bool hierarchical = p.dispatcher == "hierarchical";
  if (!p.dispatch_node_size) {
    if (hierarchical)
      refuse("parallel.dispatcher", "found hierarchical without `dispatch_node_size`",
             "expected the number of ranks of a node beside it");
    return;
  }
  const auto size = static_cast<std::uint64_t>(*p.dispatch_node_size);
  if (!hierarchical && p.dispatcher != "auto" && p.dispatcher != "device")
    refuse(key, fmt::format("found {} with the dispatcher {}", size, p.dispatcher),
           "expected none: only hierarchical and device dispatch know nodes");
  else if (!std::has_single_bit(size) || p.expert % static_cast<std::int64_t>(size) != 0)
    refuse(key, fmt::format("found {}", size),
           fmt::format("expected a power of two that divides expert, {}", p.expert));
}

/// What is dispatched at once must fit: a sixteenth of a sequence of every rank, all of it for one rank's experts.
void bound_issues(const Recipe& r, const RefuseExpert& refuse) {
  const ParallelSection& p = r.parallel;
  if (!p.dispatch_bound || p.expert == 1) return;
  const std::int64_t T = r.data.sequence_length, K = r.model.num_experts_per_tok;
  const std::int64_t tokens = r.data.micro_batch_size * T / (p.tensor * p.context);
  const std::int64_t block = std::min(tokens, T % 16 == 0 ? T / 16 : T);
  const std::int64_t least = p.expert * block * std::min(K, r.model.n_routed_experts / p.expert);
  const double rows = *p.dispatch_bound * static_cast<double>(tokens * K);
  if (rows < static_cast<double>(least))
    refuse("parallel.dispatch_bound", fmt::format("found {}", *p.dispatch_bound),
           fmt::format("expected at least {:.4g}: {} tokens of each of {} ranks go at once, and all of them may choose "
                       "the experts of one rank",
                       std::ceil(1e3 * static_cast<double>(least) / static_cast<double>(tokens * K)) / 1e3, block,
                       p.expert));
}

}  // namespace

void expert_issues(const Recipe& r, const RefuseExpert& refuse) {
  const ParallelSection& p = r.parallel;
  const std::int64_t experts = r.model.n_routed_experts;
  const bool layout = r.run.reproducibility == Reproducibility::layout;
  if (p.expert > 1) {
    if (experts == 0)
      return refuse("parallel.expert", fmt::format("found {}", p.expert),
                    "expected 1: the model has no routed experts");
    if (experts % p.expert != 0)
      return refuse("parallel.expert", fmt::format("found {}", p.expert),
                    fmt::format("expected a divisor of the {} routed experts", experts));
    if (layout && num_leaves(experts) % p.expert != 0)
      return refuse("parallel.expert", fmt::format("found {}", p.expert),
                    fmt::format("expected a divisor of {} in mode layout, which sums {} experts in as many leaves",
                                num_leaves(experts), experts));
    if (p.dispatcher == "local")
      return refuse("parallel.dispatcher", fmt::format("found local with {} ranks that share experts", p.expert),
                    "expected auto, all-to-all, hierarchical or device");
    // A lane lists a token's ranks in memory of its own (kernels/exchange/lanes.h).
    if (p.dispatcher == "device" && r.model.num_experts_per_tok > most_device_choices)
      return refuse("parallel.dispatcher",
                    fmt::format("found device with {} experts a token", r.model.num_experts_per_tok),
                    fmt::format("expected all-to-all or hierarchical: it takes at most {}", most_device_choices));
  }
  if (p.expert_tensor > 1) {
    if (experts == 0)
      return refuse("parallel.expert_tensor", fmt::format("found {}", p.expert_tensor),
                    "expected 1: the model has no routed experts");
    // Mode layout cuts every layout's sums alike, by blocks of 16.
    const std::int64_t columns = r.model.moe_intermediate_size;
    const std::int64_t units = column_units(columns, r.run.reproducibility, r.precision.compute);
    const std::int64_t leaves = units > 0 ? num_leaves(units) : 1;
    if (leaves % p.expert_tensor != 0)
      return refuse("parallel.expert_tensor", fmt::format("found {}", p.expert_tensor),
                    fmt::format("expected a divisor of {} (moe_intermediate_size is {}{})", leaves, columns,
                                is_fp8(r.precision.compute) ? fmt::format(", cut in blocks of {}, which share a scale",
                                                                          scale_block(r.precision.compute))
                                : layout                    ? ", cut in blocks of 16 in mode layout"
                                                            : ""));
  }
  node_issues(p, refuse);
  bound_issues(r, refuse);
}

void expert_rank_issues(const Recipe& r, std::int64_t ranks, const RefuseExpert& refuse) {
  const ParallelSection& p = r.parallel;
  const std::int64_t stage = ranks / p.pipeline;
  if (stage % p.expert_tensor != 0)
    refuse("parallel.expert_tensor", fmt::format("found {}", p.expert_tensor),
           fmt::format("expected a divisor of the {} ranks of a stage", stage));
  else if (stage / p.expert_tensor % p.expert != 0)
    refuse("parallel.expert", fmt::format("found {}", p.expert),
           fmt::format("expected a divisor of {}, the ranks of a stage{}", stage / p.expert_tensor,
                       p.expert_tensor > 1 ? " by expert_tensor" : ""));
}

}  // namespace fourmi::recipe
