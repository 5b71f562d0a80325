#include "framework/train/coordinates.h"

#include <algorithm>

namespace fourmi {

namespace {

Share share(const Mesh& mesh, int rank, Axis axis) {
  return {mesh.coordinate(rank, axis), mesh.size(axis)};
}

/// Of the ranks that hold the same part of the embedding in all stages that have one.
Member among_embeddings(const Mesh& mesh, int rank, const std::vector<int>& stages) {
  const std::vector<int> peers = holders(mesh, rank, Copies::tensor_peers);
  const int place = static_cast<int>(std::find(peers.begin(), peers.end(), rank) - peers.begin());
  const auto at = std::find(stages.begin(), stages.end(), mesh.coordinate(rank, Axis::pipeline));
  if (at == stages.end()) return {place, static_cast<int>(peers.size())};
  return {static_cast<int>(at - stages.begin()) * static_cast<int>(peers.size()) + place,
          static_cast<int>(stages.size() * peers.size())};
}

}  // namespace

Coordinates::Coordinates(const Recipe& r, const StageMap& stages, const Mesh& mesh, int rank)
    : stage(mesh.coordinate(rank, Axis::pipeline)),
      data{mesh.coordinate(rank, Axis::data), mesh.size(Axis::data)},
      shares{share(mesh, rank, Axis::tensor), share(mesh, rank, Axis::expert), share(mesh, rank, Axis::expert_tensor)} {
  for (Copies copies : all_copies) {
    const std::vector<int> peers = holders(mesh, rank, copies);
    members.holders[static_cast<std::size_t>(copies)] = {
        static_cast<int>(std::find(peers.begin(), peers.end(), rank) - peers.begin()), static_cast<int>(peers.size())};
  }
  members.embedding = among_embeddings(mesh, rank, stages.embedding_ranks(r.model));
}

Holding Coordinates::holding(const Recipe& r, const StageMap& stages) const {
  Holding held = stages.holding(r.model, stage);
  held.shares = shares;
  return held;
}

}  // namespace fourmi
