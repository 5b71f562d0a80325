// The groups that one rank works in, by the axes of the mesh. Made once, at start; layers, optimizer and engine take
// the group that they need from here and never ask for its size first.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "parallel/mesh.h"

namespace fourmi {

/// Which ranks of a stage hold the same part of a parameter, each with a part of its gradient.
enum class Copies : std::uint8_t {
  every_rank,    ///< not cut: the ranks of data, context and tensor
  tensor_peers,  ///< cut by tensor: those of data and context
  expert_peers   ///< of an expert: those of expert-data
};
inline constexpr std::array all_copies{Copies::every_rank, Copies::tensor_peers, Copies::expert_peers};
/// Those ranks, ascending, `rank` itself among them.
std::vector<int> holders(const Mesh& mesh, int rank, Copies copies);
/// Those that hold the same part of the embedding, ascending: of all `stages` that have one, if the rank's is among
/// several such; else as Copies::tensor_peers.
std::vector<int> embedding_holders(const Mesh& mesh, int rank, std::span<const int> stages);

class RankGroups {
 public:
  /// Collective: all ranks of `world` with the same arguments. `world` outlives it. An axis of all ranks is `world`
  /// itself, one of one rank a group of one. `embedding_stages`: the places along the pipeline that hold a copy of the
  /// embedding, where several do.
  RankGroups(Group& world, const MeshSizes& sizes, std::span<const int> embedding_stages = {});
  /// All ranks along the data axis.
  explicit RankGroups(Group& world) : RankGroups(world, MeshSizes{.ranks = world.size()}) {}

  const Mesh& mesh() const { return mesh_; }
  /// This rank's place along an axis.
  int coordinate(Axis axis) const { return mesh_.coordinate(world_->rank(), axis); }

  Group& world() const { return *world_; }
  Group& data() const { return *data_; }          ///< ranks that share the global batch, of one stage
  Group& pipeline() const { return *pipeline_; }  ///< the stages of one replica; rank = pipeline coordinate
  Group& tensor() const { return *tensor_; }      ///< ranks that share the rows of a micro-batch
  Group& context() const { return *context_; }    ///< ranks that share each sequence; rank = its part of the sequence
  Group& expert() const { return *expert_; }      ///< ranks that share a layer's routed experts
  Group& expert_tensor() const { return *expert_tensor_; }  ///< ranks that share the columns of the same experts
  /// Ranks that hold the same parts of parameters.
  Group& holders(Copies copies) const { return *holders_[static_cast<std::size_t>(copies)]; }
  /// Ranks of all stages that hold the same part of the embedding; tensor_peers where no other stage does.
  Group& embedding() const { return *embedding_; }
  /// Each of them once, the world first, with those of one rank.
  std::vector<const Group*> every() const;

  /// What the traffic meter and its formulas call them. A group that has all ranks is the world.
  static constexpr const char *world_name = "world", *data_name = "data", *pipeline_name = "pipeline",
                              *tensor_name = "tensor", *context_name = "context", *embedding_name = "embedding",
                              *expert_name = "expert", *expert_tensor_name = "expert_tensor";
  static constexpr std::array holders_names{"stage", "data x context", "expert_data"};  ///< by Copies

 private:
  Group* make(const char* name, std::vector<int> ranks);

  Mesh mesh_;
  Group* world_;
  std::vector<std::unique_ptr<Group>> made_;
  Group *data_, *pipeline_, *tensor_, *context_, *expert_, *expert_tensor_, *embedding_;
  std::array<Group*, all_copies.size()> holders_{};
};

}  // namespace fourmi
