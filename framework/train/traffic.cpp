#include "framework/train/traffic.h"

#include <algorithm>
#include <map>
#include <utility>

#include "framework/train/engine_parts.h"
#include "framework/train/mesh_sizes.h"

namespace fourmi {

namespace {

/// By group, as RankGroups names it: a group of all ranks is the world, one of this rank alone sends nothing.
class Groups {
 public:
  explicit Groups(int world) : world_(world) {}
  void add(const char* name, int size, const TrafficByCall& traffic) {
    if (size == 1) return;
    const char* own = size == world_ ? RankGroups::world_name : name;
    auto at = std::find_if(all_.begin(), all_.end(), [&](const GroupTraffic& g) { return g.group == own; });
    if (at == all_.end()) at = all_.insert(all_.end(), {own, size, {}});
    for (std::size_t c = 0; c < num_calls; ++c) {
      at->by_call[c].calls += traffic[c].calls;
      at->by_call[c].bytes += traffic[c].bytes;
    }
  }
  std::vector<GroupTraffic> all() && { return std::move(all_); }

 private:
  int world_;
  std::vector<GroupTraffic> all_;
};

void add(TrafficByCall& sum, Call call, std::int64_t calls, std::int64_t bytes) {
  Traffic& t = sum[static_cast<std::size_t>(call)];
  t.calls += calls;
  t.bytes += bytes;
}

/// How often a layer's gradient goes to its owners, and its weights come from them.
struct Repeats {
  std::int64_t sums = 1, gathers = 1;
};

/// Of ZeRO 2 and 3: after each backward, and before each work on a layer that is not the one that worked last.
std::map<std::int64_t, Repeats> layer_repeats(const Recipe& r, const StageMap& map, int pipeline_rank,
                                              const Program& program) {
  std::map<std::int64_t, Repeats> repeats;
  std::int64_t present = -1;
  for (const Instruction& i : program.instructions) {
    if (i.kind != Instruction::Kind::act) continue;
    const Stage s = map.stage(map.stages_of(pipeline_rank)[static_cast<std::size_t>(i.pass.chunk)]);
    const bool mtp = s.last && r.model.num_nextn_predict_layers > 0;
    // Both halves of multi-token prediction's backward are in the first one.
    const std::int64_t end = s.end + (mtp && i.verb != Verb::backward_weight);
    for (std::int64_t step = 0; step < end - s.begin; ++step) {
      const std::int64_t l = i.verb == Verb::forward ? s.begin + step : end - 1 - step;
      Repeats& t = repeats.try_emplace(l, Repeats{0, 0}).first->second;
      t.gathers += std::exchange(present, l) != l;
      t.sums += i.verb == Verb::backward || i.verb == Verb::backward_weight || (l == s.end && i.verb != Verb::forward);
    }
  }
  if (r.parallel.zero < 3)
    for (auto& [layer, t] : repeats) t.gathers = 1;  // all at the step's end
  return repeats;
}

/// A list's gradients, each element to its owner, and the owner's new weights to all (ordered_sum.h), in rounds of as
/// much as the scratch holds.
TrafficByCall shard_traffic(const ShardPlan& plan, int rank, const ModelTypes& types, DType weight, Repeats repeats) {
  TrafficByCall sum{};
  const std::int64_t others = plan.group_size() - 1;
  if (others == 0) return sum;
  const std::int64_t scratch = Optimizer::scratch_bytes(plan, types.gradient, weight);
  const auto rounds = [&](DType dtype) {
    const std::int64_t most = plan.most_shard_elements();
    const std::int64_t chunk = std::min(scratch / (2 * others * size_of(dtype)), most);
    return most == 0 ? 0 : (most + chunk - 1) / chunk;
  };
  std::int64_t elsewhere = 0;
  for (int r = 0; r < plan.group_size(); ++r) elsewhere += r == rank ? 0 : plan.shard_elements(r);
  add(sum, Call::all_to_all, repeats.sums * rounds(types.gradient), repeats.sums * elsewhere * size_of(types.gradient));
  add(sum, Call::all_gather, repeats.gathers * rounds(weight),
      repeats.gathers * others * plan.shard_elements(rank) * size_of(weight));
  return sum;
}

/// An exact sum or maximum of n numbers (Group::all_sum): each rank's to all, or if they are many in two rounds.
std::int64_t reduce_bytes(std::int64_t n, std::int64_t size, int rank, std::int64_t ranks) {
  if (n * size <= Group::one_round_bytes) return n * size * (ranks - 1);
  const std::int64_t mine = n / ranks + (rank < n % ranks);
  return (n - mine) * size + mine * size * (ranks - 1);
}

/// What all ranks agree on: whether losses and gradients are numbers, the losses, the gradient norm, the experts' load.
TrafficByCall world_traffic(const ModelSection& m, int rank, std::int64_t ranks) {
  TrafficByCall sum{};
  for (std::int64_t bytes : {2 * sizeof(std::int64_t), sizeof(double)}) add(sum, Call::all_max, 1, bytes * (ranks - 1));
  for (std::int64_t numbers : {3, 1}) add(sum, Call::all_sum, 1, numbers * size_of(DType::fx128) * (ranks - 1));
  std::int64_t moe_layers = 0;
  for (std::int64_t l = 0; l < m.num_hidden_layers + m.num_nextn_predict_layers; ++l) moe_layers += is_moe_layer(m, l);
  const std::int64_t counts = moe_layers * m.n_routed_experts;
  if (counts > 0) add(sum, Call::all_sum, 1, reduce_bytes(counts, sizeof(std::int64_t), rank, ranks));
  return sum;
}

}  // namespace

TrafficByCall pipeline_traffic(const Recipe& r, const StageMap& map, int pipeline_rank, int num_micro_batches) {
  TrafficByCall sum{};
  const ModelTypes types = model_types(r.precision.compute, r.run.reproducibility);
  const std::int64_t rows = r.data.micro_batch_size * r.data.sequence_length / (r.parallel.tensor * r.parallel.context);
  const std::int64_t border = rows * r.model.hidden_size * size_of(types.activation);
  for (std::size_t s = 0; s + 1 < map.places.size(); ++s) {
    const int before = map.places[s].rank, after = map.places[s + 1].rank;
    if (before == after || (before != pipeline_rank && after != pipeline_rank)) continue;
    // One of hidden state and gradient goes, the other comes.
    add(sum, Call::send, num_micro_batches, num_micro_batches * border);
    add(sum, Call::receive, num_micro_batches, 0);
  }
  return sum;
}

std::vector<GroupTraffic> Engine::predict_traffic(const Recipe& r, int num_ranks, int rank, const StepSizes& step) {
  const StageMap stages = stage_map(r);
  const Mesh mesh(mesh_sizes(r, num_ranks));
  const Coordinates at(r, stages, mesh, rank);
  const ModelTypes types = model_types(r.precision.compute, r.run.reproducibility);
  Groups groups(num_ranks);
  groups.add(RankGroups::world_name, num_ranks, world_traffic(r.model, rank, num_ranks));
  const Program program =
      std::move(make_proven_programs(schedule_of(r, step.num_micro_batches))[static_cast<std::size_t>(at.stage)]);
  const auto level = static_cast<ZeroLevel>(r.parallel.zero);
  const std::map<std::int64_t, Repeats> repeats = layer_repeats(r, stages, at.stage, program);
  const ParameterTable held(r.model, at.holding(r, stages));
  Optimizer::visit_plans(
      held, level, at.members, [&](const Region& region, const auto& parameters, const ShardPlan& plan, Member member) {
        const Parameter& p = *parameters.front();
        const DType weight = p.set == ParameterSet::matrices ? types.activation : types.accumulate;
        groups.add(
            p.stage_copies ? RankGroups::embedding_name : RankGroups::holders_names[static_cast<std::size_t>(p.copies)],
            member.size,
            shard_traffic(plan, member.rank, types, weight, region.layer < 0 ? Repeats{} : repeats.at(region.layer)));
      });
  groups.add(RankGroups::pipeline_name, mesh.size(Axis::pipeline),
             pipeline_traffic(r, stages, at.stage, step.num_micro_batches));
  const RowTraffic rows = row_traffic(r, stages, at.stage, program, step.balance_loss);
  groups.add(RankGroups::tensor_name, mesh.size(Axis::tensor), rows.tensor);
  groups.add(RankGroups::context_name, mesh.size(Axis::context), rows.context);
  return std::move(groups).all();
}

}  // namespace fourmi
