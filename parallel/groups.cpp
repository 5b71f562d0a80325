#include "parallel/groups.h"

#include <algorithm>

namespace fourmi {

std::vector<int> holders(const Mesh& mesh, int rank, Copies copies) {
  switch (copies) {
    case Copies::every_rank:
      return mesh.peers(rank, {Axis::data, Axis::context, Axis::tensor});
    case Copies::tensor_peers:
      return mesh.peers(rank, {Axis::data, Axis::context});
    case Copies::expert_peers:
      return mesh.peers(rank, {Axis::expert_data});
  }
  return {};
}

RankGroups::RankGroups(Group& world, const MeshSizes& sizes, std::span<const int> embedding_stages)
    : mesh_(sizes),
      world_(&world),
      data_(make(data_name, mesh_.peers(world.rank(), {Axis::data}))),
      pipeline_(make(pipeline_name, mesh_.peers(world.rank(), {Axis::pipeline}))),
      tensor_(make(tensor_name, mesh_.peers(world.rank(), {Axis::tensor}))),
      context_(make(context_name, mesh_.peers(world.rank(), {Axis::context}))),
      expert_(make(expert_name, mesh_.peers(world.rank(), {Axis::expert}))),
      expert_tensor_(make(expert_tensor_name, mesh_.peers(world.rank(), {Axis::expert_tensor}))) {
  for (std::size_t i = 0; i < all_copies.size(); ++i)
    holders_[i] = make(holders_names[i], fourmi::holders(mesh_, world.rank(), all_copies[i]));
  embedding_ = &holders(Copies::tensor_peers);
  const std::vector<int> sharers = embedding_ranks(embedding_stages);
  if (embedding_stages.size() > 1 && std::find(sharers.begin(), sharers.end(), world.rank()) != sharers.end())
    embedding_ = make(embedding_name, sharers);
}

std::vector<const Group*> RankGroups::every() const {
  std::vector<const Group*> groups{world_};
  for (const std::unique_ptr<Group>& group : made_) groups.push_back(group.get());
  return groups;
}

Group* RankGroups::make(const char* name, std::vector<int> ranks) {
  if (std::ssize(ranks) == world_->size()) return world_;
  made_.push_back(ranks.size() == 1 ? make_self_group(name) : world_->subgroup(name, ranks));
  return made_.back().get();
}

/// Of this rank's part of the table.
std::vector<int> RankGroups::embedding_ranks(std::span<const int> stages) const {
  std::vector<int> ranks = mesh_.peers(world_->rank(), {Axis::pipeline, Axis::data, Axis::context});
  std::erase_if(ranks, [&](int rank) {
    return std::find(stages.begin(), stages.end(), mesh_.coordinate(rank, Axis::pipeline)) == stages.end();
  });
  return ranks;
}

}  // namespace fourmi
