#include "parallel/groups.h"

namespace fourmi {

RankGroups::RankGroups(Group& world, const MeshSizes& sizes)
    : mesh_(sizes), world_(&world), data_(make("data", {Axis::data})), pipeline_(make("pipeline", {Axis::pipeline})) {}

Group* RankGroups::make(const char* name, std::initializer_list<Axis> axes) {
  const std::size_t size = mesh_.peers(world_->rank(), axes).size();
  if (static_cast<int>(size) == world_->size()) return world_;
  made_.push_back(size == 1 ? make_self_group(name) : make_group(*world_, mesh_, name, axes));
  return made_.back().get();
}

}  // namespace fourmi
