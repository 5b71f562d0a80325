// The groups that one rank works in, by the axes of the mesh. Made once, at start; layers, optimizer and engine take
// the group that they need from here and never ask for its size first.
#pragma once

#include <memory>
#include <vector>

#include "parallel/mesh.h"

namespace fourmi {

class RankGroups {
 public:
  /// Collective: all ranks of `world` with the same sizes. `world` outlives it. An axis of all ranks is `world` itself,
  /// one of one rank a group of one.
  RankGroups(Group& world, const MeshSizes& sizes);
  /// All ranks along the data axis.
  explicit RankGroups(Group& world) : RankGroups(world, MeshSizes{.ranks = world.size()}) {}

  const Mesh& mesh() const { return mesh_; }
  /// This rank's place along an axis.
  int coordinate(Axis axis) const { return mesh_.coordinate(world_->rank(), axis); }

  Group& world() const { return *world_; }
  Group& data() const { return *data_; }          ///< ranks that share the global batch, of one stage
  Group& pipeline() const { return *pipeline_; }  ///< the stages of one replica; rank = pipeline coordinate

 private:
  Group* make(const char* name, std::initializer_list<Axis> axes);

  Mesh mesh_;
  Group* world_;
  std::vector<std::unique_ptr<Group>> made_;
  Group *data_, *pipeline_;
};

}  // namespace fourmi
