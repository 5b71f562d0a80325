// The engine's memory: counted, allocated, taken.
#include "framework/train/engine_parts.h"

#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "framework/model/leaves.h"
#include "framework/train/mesh_sizes.h"

namespace fourmi {

namespace {

ModelTypes types_of(const Recipe& r) {
  return model_types(r.precision.compute, r.run.reproducibility);
}

DType moment_dtype(const Recipe& r) {
  return r.precision.moments == Moments::bf16 ? DType::bf16 : types_of(r).accumulate;
}

/// The arenas for real. What cannot be had is said with all of them, since another may be the one to shrink.
std::unique_ptr<Arenas> allocate(const Arenas& measured, const Recipe& r, int rank) {
  std::int64_t together = 0;
  for (const auto& [name, bytes] : measured.sizes()) together += bytes;
  const std::int64_t machine = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  std::string refused = together > machine ? fmt::format("this machine has {} bytes in all", machine) : "";
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

}  // namespace

Engine::Coordinates::Coordinates(const Recipe& r, const StageMap& stages, const Mesh& mesh, int rank)
    : stage(mesh.coordinate(rank, Axis::pipeline)),
      data{mesh.coordinate(rank, Axis::data), mesh.size(Axis::data)},
      embedding(data) {
  const std::vector<int> holders = stages.embedding_ranks(r.model);
  const auto at = std::find(holders.begin(), holders.end(), stage);
  if (at == holders.end()) return;
  embedding = {static_cast<int>(at - holders.begin()) * data.size + data.rank,
               static_cast<int>(holders.size()) * data.size};
}

Engine::Parts::Parts(const Recipe& r, const StageMap& stages, const ParameterTable& held, const Coordinates& at,
                     Arenas& arenas)
    : store(held, types_of(r), arenas.weights, &arenas.gradients),
      tables(r.model, store.types(), r.data.sequence_length, arenas.weights),
      optimizer(store, moment_dtype(r), r.memory.offload_optimizer, at.data, at.embedding, arenas),
      pipeline(r, stages, at.stage, micro_batch_counts(r, at.data.size), store, tables, arenas.activations) {
  for (const Parameter* p : held.of(ParameterSet::router_bias)) router_biases.push_back(store.slot(p->name));
}

Context cuts_of(const Recipe& r, std::int32_t* refused) {
  const std::int64_t T = r.data.sequence_length;
  Context c;
  c.attention_block = T <= 64 ? T : std::gcd<std::int64_t, std::int64_t>(T, 64);
  if (r.run.reproducibility == Reproducibility::layout) {
    c.attention_block = T / 16;
    c.weight_cuts = {.rows = T / 16, .row_token = nullptr, .refused = refused};
    c.token_cuts = {.rows = 1, .row_token = nullptr, .refused = refused};
    c.query_leaves = 16;
    if (types_of(r).gradient == DType::fx128) c.leaves = layout_leaves(r.model, r.parallel.tensor);
  }
  return c;
}

Engine::Memory Engine::measure(const Recipe& recipe, int num_ranks) {
  const StageMap stages = stage_map(recipe);
  const Mesh mesh(mesh_sizes(recipe, num_ranks));
  Memory most{};
  std::int64_t most_bytes = -1;
  for (int stage = 0; stage < mesh.size(Axis::pipeline); ++stage) {
    const ParameterTable held(recipe.model, stages.holding(recipe.model, stage));
    const int data = Optimizer::rank_with_most(held, mesh.size(Axis::data));
    const int rank =
        stage * (num_ranks / mesh.size(Axis::pipeline)) + data * (mesh.size(Axis::tensor) * mesh.size(Axis::context));
    Arenas measured(recipe.memory);
    Parts(recipe, stages, held, Coordinates(recipe, stages, mesh, rank), measured);
    std::int64_t bytes = 0;
    for (const auto& [name, size] : measured.sizes()) bytes += size;
    if (bytes > most_bytes) most_bytes = bytes, most = measured.sizes();
  }
  return most;
}

Engine::Engine(const Recipe& recipe, const RankGroups& groups, const Stream& stream)
    : recipe_(&recipe),
      groups_(&groups),
      stream_(&stream),
      stages_(stage_map(recipe)),
      table_(std::make_unique<ParameterTable>(recipe.model)) {
  const Coordinates at(recipe, stages_, groups.mesh(), groups.world().rank());
  held_ = std::make_unique<ParameterTable>(recipe.model, stages_.holding(recipe.model, at.stage));
  Arenas measured(recipe.memory);
  Parts(recipe, stages_, *held_, at, measured);
  arenas_ = allocate(measured, recipe, groups.world().rank());
  parts_ = std::make_unique<Parts>(recipe, stages_, *held_, at, *arenas_);
}

}  // namespace fourmi
