#include "parallel/groups.h"

#include <algorithm>
#include <utility>

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

std::vector<int> embedding_holders(const Mesh& mesh, int rank, std::span<const int> stages) {
  const auto has_one = [&](int r) {
    return std::find(stages.begin(), stages.end(), mesh.coordinate(r, Axis::pipeline)) != stages.end();
  };
  if (stages.size() < 2 || !has_one(rank)) return holders(mesh, rank, Copies::tensor_peers);
  std::vector<int> ranks = mesh.peers(rank, {Axis::pipeline, Axis::data, Axis::context});
  std::erase_if(ranks, [&](int r) { return !has_one(r); });
  return ranks;
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
  std::vector<int> sharers = embedding_holders(mesh_, world.rank(), embedding_stages);
  if (std::ssize(sharers) > embedding_->size()) embedding_ = make(embedding_name, std::move(sharers));
  for (Group* group : {pipeline_, context_}) group->prepare_messages();
}

std::vector<const Group*> RankGroups::every() const {
  std::vector<const Group*> groups{world_};
  for (const std::unique_ptr<Group>& group : made_) groups.push_back(group.get());
  return groups;
}

Group* RankGroups::make(const char* name, std::vector<int> ranks) {
  if (std::ssize(ranks) == world_->size()) return world_;
  made_.push_back(ranks.size() == 1 ? make_self_group(name) : world_->subgroup(name, ranks));
  if (ranks.size() == 1 && world_->device()) made_.back()->use_device(*world_->device());
  return made_.back().get();
}

}  // namespace fourmi
