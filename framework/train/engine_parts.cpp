// The engine's memory: counted, allocated, taken.
#include "framework/train/engine_parts.h"

#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "framework/train/mesh_sizes.h"
#include "framework/train/on_policy/on_policy.h"
#include "framework/train/teacher/open_guidance.h"

namespace fourmi {

namespace {

constexpr bool always_checks_calls = FOURMI_ALWAYS_CHECKS_CALLS;  // builds for debugging

ModelTypes types_of(const Recipe& r) {
  return model_types(r.precision, r.run.reproducibility);
}

ZeroLevel zero_level(const Recipe& r) {
  return static_cast<ZeroLevel>(r.parallel.zero);
}

DType moment_dtype(const Recipe& r) {
  return r.precision.moments == Moments::bf16 ? DType::bf16 : types_of(r).accumulate;
}

/// Micro-batches of a step, and of the guard's shadow of it.
std::vector<int> counts_of_programs(const Recipe& r, std::int64_t data_ranks) {
  std::vector<int> counts = micro_batch_counts(r, data_ranks);
  for (std::size_t i = 0, n = counts.size(); i < n && promotes(r); ++i) {
    const int shadow = shadow_micro_batches(r, counts[i]);
    if (std::find(counts.begin(), counts.end(), shadow) == counts.end()) counts.push_back(shadow);
  }
  return counts;
}

/// The arenas for real. What cannot be had is said with all of them, since another may be the one to shrink.
std::unique_ptr<Arenas> allocate(const Arenas& measured, const Recipe& r, int rank) {
  std::int64_t together = 0;
  for (const auto& [name, bytes] : measured.sizes()) together += bytes;
  const std::int64_t machine = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  std::string refused =
      !measured.weights.runtime() && together > machine ? fmt::format("this machine has {} bytes in all", machine) : "";
  if (refused.empty()) try {
      return std::make_unique<Arenas>(measured);
    } catch (const Error& e) {
      if (e.status() != ExitStatus::environment) throw;
      refused = fmt::format("{} could not be had", e.place());
    }
  std::string table;
  for (const auto& [name, bytes] : measured.sizes())
    if (bytes > 0) table += fmt::format("{}{} {}", table.empty() ? "" : ", ", name, bytes);
  std::string remedy = "Use ";
  if (r.memory.recompute != Recompute::full) remedy += "memory.recompute=full, ";
  if (r.data.micro_batch_size > 1) remedy += "a smaller data.micro_batch_size, ";
  throw Error(ExitStatus::environment, fmt::format("memory of rank {}", rank),
              fmt::format("{}, {} bytes were expected: {}", refused, together, table),
              remedy + "more ranks, or a machine with more memory");
}

LayerGroups with_windows(LayerGroups groups, Arena& arena) {
  groups.windows = &arena;
  return groups;
}

}  // namespace

Engine::Parts::Parts(const Recipe& r, const StageMap& stages, const ParameterTable& held, const Coordinates& at,
                     const LayerGroups& groups, Arenas& arenas)
    : store(held, types_of(r), arenas.weights, &arenas.gradients, zero_level(r),
            promotes(r) ? MapWeights::in_full_too : MapWeights::as_products_read_them),
      tables(r.model, store.types(), r.data.sequence_length, arenas.weights),
      optimizer(store, moment_dtype(r), r.memory.offload_optimizer, at.members, arenas),
      panels(optimizer, store),
      pipeline(r, stages, at.stage, counts_of_programs(r, at.data.size), store, tables,
               with_windows(groups, arenas.communication), arenas.activations) {
  Arena& with_tables = arenas.weights;
  counts_LE = with_tables.device() == Device::cpu
                  ? tables.counts_LE
                  : with_tables.allocate_table(tables.counts_LE.shape, DType::i64, "expert counts of a step");
  num_sums = num_step_sums(r);
  agreed.resize(num_sums + static_cast<std::size_t>(counts_LE.num_elements()));
  for (const Parameter* p : held.of(ParameterSet::router_bias)) router_biases.push_back(store.slot(p->name));
  if (promotes(r)) guarded = std::make_unique<Guarded>(ParameterTable(r.model), store, optimizer, arenas);
}

void Engine::Panels::need(std::int64_t layer) {
  if (store_.level() < ZeroLevel::weights || present_ == layer) return;
  optimizer_.gather_layer(*stream_, *groups_, layer, forms_);
  present_ = layer;
}

void Engine::Panels::reduce(std::int64_t layer) {
  if (store_.level() >= ZeroLevel::gradients) optimizer_.reduce_layer(*stream_, *groups_, layer);
}

namespace {

/// Of a stage the ranks among which one needs most: all, where a teacher lies across them in a layout of its own.
std::vector<Coordinates> candidates(const Recipe& recipe, const StageMap& stages, const Mesh& mesh, int stage) {
  const int per_stage = mesh.ranks() / mesh.size(Axis::pipeline);
  std::vector<Coordinates> found;
  std::int64_t most_masters = -1;
  for (int rank = stage * per_stage; rank < (stage + 1) * per_stage; ++rank) {
    const Coordinates at(recipe, stages, mesh, rank);
    if (!recipe.distill.online()) {
      const ParameterTable held(recipe.model, at.holding(recipe, stages));
      const std::int64_t masters = Optimizer::num_masters(held, types_of(recipe), zero_level(recipe), at.members);
      if (masters <= most_masters) continue;
      most_masters = masters;
      found.clear();
    }
    found.push_back(at);
  }
  return found;
}

}  // namespace

Engine::Memory Engine::measure(const Recipe& recipe, int num_ranks) {
  const StageMap stages = stage_map(recipe);
  const Mesh mesh(mesh_sizes(recipe, num_ranks));
  Memory most{};
  std::int64_t most_bytes = -1;
  for (int stage = 0; stage < mesh.size(Axis::pipeline); ++stage)
    for (const Coordinates& at : candidates(recipe, stages, mesh, stage)) {
      const ParameterTable held(recipe.model, at.holding(recipe, stages));
      Arenas measured(recipe.memory);
      Parts(recipe, stages, held, at, {}, measured);
      make_guidance(recipe, stages, mesh, at.rank, nullptr, measured.teacher);
      std::int64_t bytes = 0;
      for (const auto& [name, size] : measured.sizes()) bytes += size;
      if (bytes > most_bytes) most_bytes = bytes, most = measured.sizes();
    }
  if (!recipe.distill.student_writes()) return most;
  Arenas measured(recipe.memory);  // what writes is equal on all ranks
  OnPolicy(recipe, stages, mesh, measured.writer);
  std::transform(most.begin(), most.end(), measured.sizes().begin(), most.begin(),
                 [](const auto& a, const auto& b) { return std::pair(a.first, a.second + b.second); });
  return most;
}

bool Engine::guards_precision() const {
  return parts_->guarded != nullptr;
}

void Engine::promote(std::span<const std::int64_t> layers) {
  if (!parts_->store.types().scaled()) return;
  if (!layers.empty() && !promotes(*recipe_))
    throw Error(ExitStatus::usage, "guard.precision.every",
                fmt::format("found 0 in a run whose guard has promoted {} layer(s) to bf16", layers.size()),
                "Leave the guard of eight bits on (guard.precision.every), or go on in bf16 (precision.compute)");
  std::fill(promoted_.begin(), promoted_.end(), std::uint8_t{0});
  for (std::int64_t l : layers) promoted_.at(static_cast<std::size_t>(l)) = 1;
  StepOrders orders(*recipe_, groups_->world().size());
  orders.promote(promoted_);
  for (const StepSizes& step : orders.sizes()) orders.prove(step);
  if (calls_) calls_->promote(promoted_);
  if (has_state_) gather_weights();  // in the form that their products read from here on
}

Engine::Engine(const Recipe& recipe, const RankGroups& groups, const Stream& stream, const RankGroups* teachers)
    : recipe_(&recipe),
      groups_(&groups),
      stream_(&stream),
      device_(stream.device() ? &stream.device()->runtime() : nullptr),
      stages_(stage_map(recipe)),
      table_(std::make_unique<ParameterTable>(recipe.model)),
      traffic_(groups) {
  const Coordinates at(recipe, stages_, groups.mesh(), groups.world().rank());
  held_ = std::make_unique<ParameterTable>(recipe.model, at.holding(recipe, stages_));
  Arenas measured(recipe.memory, device_);
  Parts(recipe, stages_, *held_, at, {}, measured);
  FOURMI_CHECK(recipe.distill.online() == (teachers != nullptr), "a teacher and its groups come together");
  make_guidance(recipe, stages_, groups.mesh(), at.rank, nullptr, measured.teacher);
  const bool writes = recipe.distill.student_writes();
  if (writes) OnPolicy(recipe, stages_, groups.mesh(), measured.writer);
  arenas_ = allocate(measured, recipe, at.rank);
  const LayerGroups of_layers{.tensor = &groups.tensor(),
                              .context = &groups.context(),
                              .expert = &groups.expert(),
                              .expert_tensor = &groups.expert_tensor()};
  parts_ = std::make_unique<Parts>(recipe, stages_, *held_, at, of_layers, *arenas_);
  if (parts_->guarded)
    promoted_.resize(static_cast<std::size_t>(recipe.model.num_hidden_layers + recipe.model.num_nextn_predict_layers));
  parts_->panels.connect(groups, stream);
  guidance_ = make_guidance(recipe, stages_, groups.mesh(), at.rank, teachers, arenas_->teacher);
  if (writes) on_policy_ = std::make_unique<OnPolicy>(recipe, stages_, groups.mesh(), arenas_->writer);
  StepOrders orders(recipe, groups.world().size());
  for (const StepSizes& step : orders.sizes()) orders.prove(step);
  if (recipe.guard.check_calls || always_checks_calls)
    calls_ = std::make_unique<Calls>(std::move(orders), groups.world());
}

}  // namespace fourmi
