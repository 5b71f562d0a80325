#include "framework/train/pair_rule.h"

#include "framework/model/expert_ranks.h"
#include "framework/train/stages.h"
#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

bool has_pairs(const ParallelSection& p) {
  return p.pipeline > 1 && (p.pipeline_schedule == "dualpipev" || p.pipeline_schedule == "interleaved");
}

/// What keeps the halves of a pair apart; empty: nothing.
std::string obstacle(const Recipe& r) {
  // The table gets parts in forward, of the head, and in backward, of multi-token prediction; interleaved with pairs
  // has another order of these.
  if (r.parallel.pipeline_schedule == "interleaved" && r.model.tie_word_embeddings &&
      r.model.num_nextn_predict_layers > 0 && r.run.reproducibility == Reproducibility::run)
    return "tied embeddings and multi-token prediction in mode run, where pairs of interleaved would change the order "
           "in which the table's gradient is added up";
  if (r.parallel.zero >= 3) return "parallel.zero 3, whose layers take turns in memory with their weights";
  const BatchSizes sizes = batch_sizes(r);
  if (sizes.experts.alone()) return "";
  const DType accumulate = model_types(r.precision, r.run.reproducibility).accumulate;
  const ReachableBounds bounds =
      reachable_bounds(sizes.experts.size, sizes.experts.options(r.model, sizes.shard_rows(), accumulate));
  if (bounds.rows || bounds.choices)
    return "parallel.dispatch_bound, which the router can reach: then rows go in rounds";
  return "";
}

}  // namespace

std::string to_text(const PairRule& rule) {
  return fmt::format("{} ({})",
                     rule.how == Pairs::together ? "forward and backward of a pair take turns phase by phase"
                                                 : "forwards and backwards go one after the other",
                     rule.why);
}

PairRule pair_rule(const Recipe& r) {
  const bool wanted = r.parallel.overlap_pairs == OverlapPairs::always;
  const auto refuse = [](const std::string& found) {
    throw Error(ExitStatus::usage, "parallel.overlap_pairs", fmt::format("found always with {}", found),
                "Take parallel.overlap_pairs=auto, or change the other key");
  };
  if (!has_pairs(r.parallel)) {
    if (wanted)
      refuse(
          "a schedule that has no pairs, expected a pipeline with parallel.pipeline_schedule dualpipev or interleaved");
    return {};
  }
  if (r.parallel.overlap_pairs == OverlapPairs::never) return {Pairs::in_turn, "parallel.overlap_pairs is never"};
  const std::string found = obstacle(r);
  if (!found.empty() && wanted) refuse(found);
  if (!found.empty()) return {Pairs::in_turn, found};
  if (wanted) return {Pairs::together, "parallel.overlap_pairs is always"};
  if (r.parallel.expert == 1) return {Pairs::in_turn, "no rows travel to experts"};
  return {Pairs::together, "one half computes while rows of the other travel to experts"};
}

}  // namespace fourmi
