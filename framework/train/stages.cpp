#include "framework/train/stages.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "framework/model/parameters.h"
#include "framework/train/mesh_sizes.h"
#include "framework/train/pair_rule.h"
#include "kernels/exchange/on_card.h"
#include "kernels/exchange/size_on_card.h"
#include "kernels/runtime/error.h"
#include "parallel/peer_memory/reach.h"

namespace fourmi {

namespace {

/// Of the products of a layer's matrices, and of its attention, for a token in forward.
double layer_cost(const ModelSection& m, std::int64_t layer, std::int64_t sequence_length) {
  const bool mtp = layer >= m.num_hidden_layers;
  const ParameterTable table(m, mtp ? Holding{.layers = {}, .mtp = true} : Holding{.layers = {layer}});
  double products = 0;
  for (const Parameter& p : table.all()) {
    if (p.shape.rank != 2 || p.name == "model.embed_tokens.weight") continue;
    const double chosen = p.routed_expert ? static_cast<double>(m.num_experts_per_tok) /
                                                static_cast<double>(std::max<std::int64_t>(1, m.n_routed_experts))
                                          : 1.0;
    products += chosen * static_cast<double>(p.shape.num_elements());
  }
  const double T = static_cast<double>(sequence_length), W = static_cast<double>(mtp ? 0 : attention_window(m, layer));
  const double keys = W == 0 || W >= T ? T / 2 : W - W * W / (2 * T);
  return 2 * products + 2 * static_cast<double>(m.num_attention_heads * (score_head_dim(m) + value_head_dim(m))) * keys;
}

double sum_of(const LayerCosts& costs, const StageLayers& layers) {
  double sum = 0;
  for (int l = layers.begin; l < layers.end; ++l) sum += costs.layers[static_cast<std::size_t>(l)];
  return sum;
}

}  // namespace

LayerCosts layer_costs(const ModelSection& m, std::int64_t sequence_length) {
  LayerCosts costs;
  for (std::int64_t l = 0; l < m.num_hidden_layers; ++l) costs.layers.push_back(layer_cost(m, l, sequence_length));
  const double head = 2 * static_cast<double>(m.vocab_size) * static_cast<double>(m.hidden_size);
  costs.last = head;
  for (std::int64_t d = 0; d < m.num_nextn_predict_layers; ++d)
    costs.last += layer_cost(m, m.num_hidden_layers + d, sequence_length) + head;
  return costs;
}

bool promotes(const Recipe& r) {
  return is_fp8(r.precision.compute) && r.guard.precision_every > 0;
}

int shadow_micro_batches(const Recipe& r, int num_micro_batches) {
  if (r.run.reproducibility == Reproducibility::layout) return num_micro_batches;
  constexpr std::int64_t tokens = 4096;  // of fewer the gradient's rounding is not yet a mean
  const std::int64_t step = r.parallel.pipeline == 1 ? 1 : 2 * r.parallel.pipeline,
                     together = step * r.data.micro_batch_size * r.data.sequence_length;
  return static_cast<int>(std::min<std::int64_t>(num_micro_batches, (tokens + together - 1) / together * step));
}

BatchSizes batch_sizes(const Recipe& r) {
  return {r.data.micro_batch_size * r.data.sequence_length / r.parallel.context,
          r.data.sequence_length,
          r.parallel.tensor,
          r.parallel.context,
          r.parallel.context_method,
          expert_ranks(r)};
}

namespace {
/// Ranks whose kernels run on this rank's GPU, itself among them. Processes have a GPU each.
std::int64_t num_sharing(Group& world, Reach reach) {
  if (reach != Reach::threads) return 1;
  const void* const mine = &world.device()->runtime();
  std::vector<const void*> all(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  const auto sharing = std::count(all.begin(), all.end(), mine);
  if (sharing != world.size())  // threads reach memory of the same card alone
    throw Error(ExitStatus::usage, "parallel.dispatcher",
                fmt::format("found device for {} threads on several GPUs, expected threads that share one, or a "
                            "process for each GPU",
                            world.size()),
                "Choose all-to-all or hierarchical, which give the same bits");
  return sharing;
}

/// Kernels that wait for one another run at once, so a GPU must have room for those of all ranks that share it.
void require_room_on_gpus(const ExpertRanks& ranks, Group& world, Reach reach) {
  const std::int64_t sharing = num_sharing(world, reach);
  const int each = exchange::size_on_card(ranks.size, {}, ranks.multiprocessors).num_multiprocessors,
            there = exchange::num_multiprocessors(*world.device());
  if (sharing * each > there)
    throw Error(ExitStatus::usage, "parallel.dispatch_multiprocessors",
                fmt::format("found {} for each of {} ranks that share a GPU with {}, expected at most {}", each,
                            sharing, there, there / sharing),
                "Set it, or use fewer ranks a GPU");
}

/// The device dispatcher's ranks write into one another's memory, those of a node where it has nodes. Collective.
void require_reachable_peers(const Recipe& r, Group& world, Group& experts) {
  if (r.parallel.dispatcher != "device" || r.parallel.expert == 1) return;
  const ExpertRanks ranks = expert_ranks(r);
  if (ranks.method == DispatchMethod::device) {
    const Reach reach = agree_on_reach(experts);
    if (world.device()) require_room_on_gpus(ranks, world, reach);
    return;
  }
  if (experts.device())
    throw Error(
        ExitStatus::usage, "parallel.dispatch_node_size",
        fmt::format("found {} with dispatcher device for ranks on GPUs, expected one node", ranks.node_size),
        "Leave it out where peers reach each other's memory, or choose hierarchical, which gives the same bits");
  std::vector<int> node(static_cast<std::size_t>(ranks.node_size));
  std::iota(node.begin(), node.end(), experts.rank() / ranks.node_size * ranks.node_size);
  agree_on_reach(*experts.subgroup(experts.name() + ".node", node));
}
}  // namespace

RankGroups make_groups(const Recipe& recipe, Group& world) {
  RankGroups groups(world, mesh_sizes(recipe, world.size()), stage_map(recipe).embedding_ranks(recipe.model));
  require_reachable_peers(recipe, world, groups.expert());
  return groups;
}

int StageMap::num_ranks() const {
  int most = 0;
  for (const StagePlace& p : places) most = std::max(most, p.rank);
  return most + 1;
}

std::vector<int> StageMap::stages_of(int rank) const {
  std::vector<int> stages;
  for (int chunk = 0;; ++chunk) {
    const auto at = std::find(places.begin(), places.end(), StagePlace{rank, chunk});
    if (at == places.end()) return stages;
    stages.push_back(static_cast<int>(at - places.begin()));
  }
}

Stage StageMap::stage(int index) const {
  const StageLayers& s = layers[static_cast<std::size_t>(index)];
  return {s.begin, s.end, index == 0, index + 1 == static_cast<int>(layers.size())};
}

std::vector<int> StageMap::embedding_ranks(const ModelSection& m) const {
  std::set<int> ranks{places.front().rank};
  if (m.tie_word_embeddings || m.num_nextn_predict_layers > 0) ranks.insert(places.back().rank);
  return {ranks.begin(), ranks.end()};
}

Holding StageMap::holding(const ModelSection& m, int rank) const {
  Holding h;
  for (int index : stages_of(rank)) {
    const Stage s = stage(index);
    for (std::int64_t l = s.begin; l < s.end; ++l) h.layers.push_back(l);
    h.embedding |= s.first;
    h.head |= s.last;
    h.mtp |= s.last && m.num_nextn_predict_layers > 0;
  }
  std::sort(h.layers.begin(), h.layers.end());
  h.embedding_is_shared = h.has_embedding_table(m) && embedding_ranks(m).size() > 1;
  return h;
}

Schedule schedule_of(const Recipe& r, int num_micro_batches) {
  return make_schedule(r.parallel.pipeline_schedule, static_cast<int>(r.parallel.pipeline),
                       static_cast<int>(r.parallel.virtual_stages), num_micro_batches,
                       pair_rule(r).how == Pairs::together);
}

std::vector<int> micro_batch_counts(const Recipe& r, std::int64_t data_ranks) {
  std::set<int> counts;
  for (const auto& [tokens, sequences] : r.data.global_batch_size.over_tokens.steps)
    counts.insert(static_cast<int>(static_cast<std::int64_t>(sequences) / data_ranks / r.data.micro_batch_size));
  return {counts.begin(), counts.end()};
}

StageMap stage_map(const Recipe& r) {
  if (r.parallel.pipeline_schedule == "dualpipe")
    throw Error(ExitStatus::usage, "parallel.pipeline_schedule",
                "found dualpipe, which holds every stage twice, expected a schedule that trains",
                "Take dualpipev: the same overlap with one copy of the parameters; --dry-run draws dualpipe");
  // Who holds what does not depend on the number of micro-batches: twice the ranks are legal for every schedule.
  return stages_of(r, schedule_of(r, static_cast<int>(2 * r.parallel.pipeline)));
}

StageMap stages_of(const Recipe& r, const Schedule& schedule) {
  StageMap map;
  map.places = schedule.routes.front();
  const int stages = static_cast<int>(map.places.size());
  const LayerCosts costs = layer_costs(r.model, r.data.sequence_length);
  map.layers = r.parallel.stage_layers.empty()
                   ? balance_layers(costs.layers, stages, costs.first, costs.last)
                   : given_layers(r.parallel.stage_layers, stages, static_cast<int>(r.model.num_hidden_layers));
  return map;
}

Times stage_times(const Recipe& r, const StageMap& map) {
  const LayerCosts costs = layer_costs(r.model, r.data.sequence_length);
  Times times{.stages = {}};
  for (std::size_t s = 0; s < map.layers.size(); ++s) {
    const double cost =
        sum_of(costs, map.layers[s]) + (s == 0 ? costs.first : 0) + (s + 1 == map.layers.size() ? costs.last : 0);
    times.stages.push_back({cost, cost, cost});
  }
  return times;
}

std::string to_text(const StageMap& map, const ModelSection& m) {
  std::string text;
  for (int rank = 0; rank < map.num_ranks(); ++rank) {
    text += fmt::format("  {:>3} ", rank);
    for (int index : map.stages_of(rank)) {
      const Stage s = map.stage(index);
      text += fmt::format("  stage {}: {}layers {} to {}{}", index, s.first ? "embedding, " : "", s.begin, s.end - 1,
                          s.last ? ", head" : "");
      if (s.last && m.num_nextn_predict_layers > 0) text += ", multi-token prediction";
    }
    text += "\n";
  }
  return text;
}

}  // namespace fourmi
