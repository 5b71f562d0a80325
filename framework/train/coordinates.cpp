#include "framework/train/coordinates.h"

#include <algorithm>

namespace fourmi {

namespace {

Share share(const Mesh& mesh, int rank, Axis axis) {
  return {mesh.coordinate(rank, axis), mesh.size(axis)};
}

/// A rank's place among those that hold the same.
Member member(const std::vector<int>& ranks, int rank) {
  return {static_cast<int>(std::find(ranks.begin(), ranks.end(), rank) - ranks.begin()),
          static_cast<int>(ranks.size())};
}

}  // namespace

Coordinates::Coordinates(const Recipe& r, const StageMap& stages, const Mesh& mesh, int of_rank)
    : rank(of_rank),
      stage(mesh.coordinate(rank, Axis::pipeline)),
      data{mesh.coordinate(rank, Axis::data), mesh.size(Axis::data)},
      shares{share(mesh, rank, Axis::tensor), share(mesh, rank, Axis::expert), share(mesh, rank, Axis::expert_tensor)} {
  for (Copies copies : all_copies)
    members.holders[static_cast<std::size_t>(copies)] = member(holders(mesh, rank, copies), rank);
  members.embedding = member(embedding_holders(mesh, rank, stages.embedding_ranks(r.model)), rank);
}

Holding Coordinates::holding(const Recipe& r, const StageMap& stages) const {
  Holding held = stages.holding(r.model, stage);
  held.shares = shares;
  return held;
}

}  // namespace fourmi
