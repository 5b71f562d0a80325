// The groups of all ranks, as data: what one rank knows of the others' before any call is made.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "parallel/mesh.h"

namespace fourmi {

/// The groups that a rank works in: those of RankGroups, and the two that dispatch over nodes makes of `expert`.
enum class GroupKind : std::uint8_t {
  world,
  stage,
  data_context,
  expert_data,
  embedding,
  pipeline,
  tensor,
  context,
  expert,
  expert_tensor,
  expert_across,
  expert_inside
};
inline constexpr std::size_t num_group_kinds = 12;
/// As the groups call themselves ("data x context").
const char* name_of(GroupKind kind);

class OrderGroups {
 public:
  /// `embedding_stages`: as RankGroups has them. `node_size`: of dispatch over nodes; 0 where there is none.
  OrderGroups(const Mesh& mesh, std::span<const int> embedding_stages, int node_size);

  int num_ranks() const { return num_ranks_; }
  int num_groups() const { return static_cast<int>(groups_.size()); }
  /// What the group of this kind is called: one of all ranks is the world.
  GroupKind kind_of(int rank, GroupKind kind) const { return groups_[index(group_of(rank, kind))].kind; }
  /// Which of all groups; members ascend.
  int group_of(int rank, GroupKind kind) const { return of_rank_[index(rank) * num_group_kinds + index(kind)]; }
  const std::vector<int>& members(int group) const { return groups_[index(group)].ranks; }
  int size(int rank, GroupKind kind) const { return static_cast<int>(members(group_of(rank, kind)).size()); }
  /// The place of a rank among the members.
  int place(int rank, GroupKind kind) const;
  /// "tensor (ranks 2, 3)".
  std::string text(int group) const;

 private:
  struct Peers {
    GroupKind kind;
    std::vector<int> ranks;
  };
  template <class T>
  static std::size_t index(T i) {
    return static_cast<std::size_t>(i);
  }
  int num_ranks_;
  std::vector<Peers> groups_;
  std::vector<int> of_rank_;  // [ranks][kinds]
};

}  // namespace fourmi
