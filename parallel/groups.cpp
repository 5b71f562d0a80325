#include "parallel/groups.h"

#include <algorithm>

namespace fourmi {

RankGroups::RankGroups(Group& world, const MeshSizes& sizes, std::span<const int> embedding_stages)
    : mesh_(sizes),
      world_(&world),
      data_(make("data", mesh_.peers(world.rank(), {Axis::data}))),
      pipeline_(make("pipeline", mesh_.peers(world.rank(), {Axis::pipeline}))),
      embedding_(data_) {
  const std::vector<int> holders = embedding_ranks(embedding_stages);
  if (embedding_stages.size() > 1 && std::find(holders.begin(), holders.end(), world.rank()) != holders.end())
    embedding_ = make("embedding", holders);
}

Group* RankGroups::make(const char* name, std::vector<int> ranks) {
  if (std::ssize(ranks) == world_->size()) return world_;
  made_.push_back(ranks.size() == 1 ? make_self_group(name) : world_->subgroup(name, ranks));
  return made_.back().get();
}

/// Of this rank's part of the table.
std::vector<int> RankGroups::embedding_ranks(std::span<const int> stages) const {
  std::vector<int> ranks = mesh_.peers(world_->rank(), {Axis::pipeline, Axis::data});
  std::erase_if(ranks, [&](int rank) {
    return std::find(stages.begin(), stages.end(), mesh_.coordinate(rank, Axis::pipeline)) == stages.end();
  });
  return ranks;
}

}  // namespace fourmi
