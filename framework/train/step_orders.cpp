#include "framework/train/step_orders.h"

#include <algorithm>
#include <utility>

#include "framework/train/coordinates.h"
#include "framework/train/engine.h"
#include "framework/train/mesh_sizes.h"
#include "framework/train/order_layers.h"
#include "framework/train/pair_rule.h"
#include "parallel/order/prove_step.h"
#include "parallel/ordered_sum.h"

namespace fourmi {

namespace {

GroupKind kind_of(const Parameter& p) {
  if (p.stage_copies) return GroupKind::embedding;
  switch (p.copies) {
    case Copies::every_rank:
      return GroupKind::stage;
    case Copies::tensor_peers:
      return GroupKind::data_context;
    case Copies::expert_peers:
      return GroupKind::expert_data;
  }
  return GroupKind::world;
}

/// Rounds of all-to-all or all-gather, as ordered_sum.cpp cuts them: what leaves this rank in each.
struct ShardCalls {
  GroupKind group;
  std::int64_t layer;  // negative: of none
  std::vector<std::int64_t> sums, gathers;
  // In eight bits: what is gathered where a layer is not promoted, and the largest magnitudes before it.
  bool has_copies = false;
  std::vector<std::int64_t> scaled_gathers;
  std::int64_t maxima = 0;  // bytes; 0: none
};

/// An exact sum or maximum of n numbers (Group::all_sum): each rank's to all, or if they are many in two rounds.
std::int64_t reduce_bytes(std::int64_t n, std::int64_t size, int rank, std::int64_t ranks) {
  if (n * size <= Group::one_round_bytes) return n * size * (ranks - 1);
  const std::int64_t mine = n / ranks + (rank < n % ranks);
  return (n - mine) * size + mine * size * (ranks - 1);
}

ShardCalls shard_calls(const Region& region, const Parameter& p, const ShardPlan& plan, int rank,
                       const ModelTypes& types) {
  const DType weight = p.set == ParameterSet::matrices ? types.activation : types.accumulate;
  ShardCalls calls{.group = kind_of(p), .layer = region.layer, .sums = {}, .gathers = {}, .scaled_gathers = {}};
  const std::int64_t others = plan.group_size() - 1, most = plan.most_shard_elements();
  if (others == 0 || most == 0) return calls;
  const std::int64_t scratch = Optimizer::scratch_bytes(plan, types.gradient, weight);
  std::vector<std::int64_t> elements;
  for (int r = 0; r < plan.group_size(); ++r) elements.push_back(plan.shard_elements(r));
  const auto rounds = [&](const std::vector<std::int64_t>& of, std::int64_t size, const auto& elements_sent) {
    std::vector<std::int64_t> bytes;
    const std::int64_t end = *std::max_element(of.begin(), of.end());
    const std::int64_t chunk = sum_rounds(end, scratch, plan.group_size(), size).elements;
    for (std::int64_t begin = 0; begin < end; begin += chunk) {
      const auto in_round = [&](int r) {
        return std::clamp<std::int64_t>(of[static_cast<std::size_t>(r)] - begin, 0, chunk);
      };
      bytes.push_back(elements_sent(in_round) * size);
    }
    return bytes;
  };
  const auto to_all = [&](const auto& in_round) { return others * in_round(rank); };
  calls.sums = rounds(elements, size_of(types.gradient), [&](const auto& in_round) {
    std::int64_t sent = 0;
    for (int r = 0; r < plan.group_size(); ++r) sent += r == rank ? 0 : in_round(r);
    return sent;
  });
  calls.gathers = rounds(elements, size_of(weight), to_all);
  calls.has_copies = ParameterStore::has_copy(region, types);
  if (!calls.has_copies) return calls;
  std::vector<std::int64_t> scaled;
  for (int r = 0; r < plan.group_size(); ++r) scaled.push_back(shard_bytes(plan, r, types.matrix));
  calls.scaled_gathers = rounds(scaled, 1, to_all);
  if (types.weight_over == ScaleOver::tensor)
    calls.maxima = reduce_bytes(std::ssize(plan.tensors()), sizeof(double), rank, plan.group_size());
  return calls;
}

std::int64_t num_expert_counts(const ModelSection& m) {
  std::int64_t layers = 0;
  for (std::int64_t l = 0; l < m.num_hidden_layers + m.num_nextn_predict_layers; ++l) layers += is_moe_layer(m, l);
  return layers * m.n_routed_experts;
}

/// What one rank does in a step.
class Writer {
 public:
  Writer(const Recipe& recipe, const StageMap& stages, const Mesh& mesh, int rank, const StepSizes& step,
         PromotedLayers promoted, StepOrder& order)
      : recipe_(recipe),
        stages_(stages),
        at_(recipe, stages, mesh, rank),
        types_(model_types(recipe.precision, recipe.run.reproducibility)),
        level_(static_cast<ZeroLevel>(recipe.parallel.zero)),
        step_(step),
        promoted_(promoted),
        order_(order) {
    const ParameterTable held(recipe.model, at_.holding(recipe, stages));
    Optimizer::visit_plans(held, types_, level_, at_.members,
                           [&](const Region& region, const auto& parameters, const ShardPlan& plan, Member member) {
                             shards_.push_back(shard_calls(region, *parameters.front(), plan, member.rank, types_));
                           });
  }

  void write() {
    run_program();
    for (const ShardCalls& s : shards_)
      if (s.layer < 0 || level_ < ZeroLevel::gradients) sum(s);
    agree();
    // Not where the guard skips the step.
    order_.maybe([&] {
      for (const ShardCalls& s : shards_)
        if (s.maxima > 0) order_.call(s.group, Call::all_max, s.maxima);
      for (const ShardCalls& s : shards_)
        if (s.layer < 0 || level_ < ZeroLevel::weights) gather(s);
    });
  }

 private:
  std::int64_t num_ranks() const { return order_.size(GroupKind::world); }
  void world(Call call, std::int64_t bytes) { order_.call(GroupKind::world, call, bytes); }
  void sum(const ShardCalls& s) {
    for (std::int64_t bytes : s.sums) order_.call(s.group, Call::all_to_all, bytes);
  }
  void gather(const ShardCalls& s) {
    const bool scaled = s.has_copies && !is_promoted(promoted_, s.layer);
    for (std::int64_t bytes : scaled ? s.scaled_gathers : s.gathers) order_.call(s.group, Call::all_gather, bytes);
  }

  /// Layers whose weights come before they work, and whose gradients go when they have (Engine::Panels).
  void need(std::int64_t layer) {
    if (level_ < ZeroLevel::weights || std::exchange(present_, layer) == layer) return;
    for (const ShardCalls& s : shards_)
      if (s.layer == layer) gather(s);
  }
  void reduce(std::int64_t layer) {
    if (level_ < ZeroLevel::gradients) return;
    for (const ShardCalls& s : shards_)
      if (s.layer == layer) sum(s);
  }

  /// As Pipeline::run does.
  void run_program() {
    const std::vector<Program> programs =
        make_proven_programs(schedule_of(recipe_, step_.num_micro_batches), pair_rule(recipe_).how);
    const Program& program = programs[static_cast<std::size_t>(at_.stage)];
    const std::int64_t rows = recipe_.data.micro_batch_size * recipe_.data.sequence_length /
                              (recipe_.parallel.tensor * recipe_.parallel.context);
    const std::int64_t border = rows * recipe_.model.hidden_size * size_of(types_.activation);
    const int num_stages = static_cast<int>(stages_.places.size());
    LayerOrder layers(recipe_, stages_, at_.stage, step_.balance_loss, promoted_,
                      {[this](std::int64_t layer) { need(layer); }, [this](std::int64_t layer) { reduce(layer); }},
                      order_);
    for (std::size_t at = 0; at < program.instructions.size(); ++at) {
      const Instruction& i = program.instructions[at];
      const auto peer = [&](int rank) {
        return StepOrder::Peer{GroupKind::pipeline, rank, tag_of(i.message, num_stages)};
      };
      switch (i.kind) {
        case Instruction::Kind::start_receive:
          order_.receive(peer(i.message.from));
          break;
        case Instruction::Kind::start_send:
          order_.send(peer(i.message.to), border);
          break;
        case Instruction::Kind::finish_receive:
          order_.wait_receive(peer(i.message.from));
          break;
        case Instruction::Kind::finish_send:
          order_.wait_send(peer(i.message.to));
          break;
        case Instruction::Kind::act:
          if (i.together)
            layers.act_together(i, program.instructions[++at]);
          else
            layers.act(i);
          break;
      }
    }
  }

  /// As Engine::agree does: the largest gradient and what is not finite; the losses, the norm's squares, the experts'
  /// counts.
  void agree() {
    world(Call::all_max, 3 * static_cast<std::int64_t>(sizeof(double)) * (num_ranks() - 1));
    world(Call::all_sum,
          reduce_bytes(static_cast<std::int64_t>(num_step_sums(recipe_)) + num_expert_counts(recipe_.model),
                       size_of(DType::fx128), order_.place(GroupKind::world), num_ranks()));
  }

  const Recipe& recipe_;
  const StageMap& stages_;
  Coordinates at_;
  ModelTypes types_;
  ZeroLevel level_;
  StepSizes step_;
  PromotedLayers promoted_;
  StepOrder& order_;
  std::vector<ShardCalls> shards_;
  std::int64_t present_ = -1;  // the layer whose weights are in memory
};

/// Of dispatch that knows nodes; 0: none.
int node_size(const Recipe& r) {
  const ExpertRanks ranks = expert_ranks(r);
  return knows_nodes(ranks.method) && !ranks.alone() ? ranks.node_size : 0;
}

}  // namespace

StepOrders::StepOrders(const Recipe& recipe, int num_ranks)
    : recipe_(recipe),
      stages_(stage_map(recipe)),
      mesh_(mesh_sizes(recipe, num_ranks)),
      groups_(mesh_, stages_.embedding_ranks(recipe.model), node_size(recipe)) {}

StepOrder StepOrders::of(int rank, const StepSizes& step) const {
  StepOrder order(groups_, rank);
  Writer(recipe_, stages_, mesh_, rank, step, promoted_, order).write();
  return order;
}

void StepOrders::prove(const StepSizes& step) const {
  // All ranks of a stage call the same; what they send is not asked here.
  std::vector<StepOrder> of_stage;
  const int per_stage = mesh_.ranks() / mesh_.size(Axis::pipeline);
  for (int stage = 0; stage < mesh_.size(Axis::pipeline); ++stage) of_stage.push_back(of(stage * per_stage, step));
  prove_step(groups_,
             [&](int rank) -> const StepOrder& { return of_stage[static_cast<std::size_t>(rank / per_stage)]; });
}

std::vector<StepSizes> StepOrders::sizes() const {
  const auto& weights = recipe_.loss.balance_weight.steps;
  const auto is_zero = [](const auto& step) { return step.second == 0; };
  const bool some = !std::all_of(weights.begin(), weights.end(), is_zero);
  const bool none = weights.empty() || std::any_of(weights.begin(), weights.end(), is_zero);
  std::vector<StepSizes> all;
  for (int count : micro_batch_counts(recipe_, mesh_.size(Axis::data))) {
    if (some) all.push_back({count, true});
    if (none) all.push_back({count, false});
  }
  return all;
}

}  // namespace fourmi
