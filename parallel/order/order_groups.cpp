#include "parallel/order/order_groups.h"

#include <algorithm>
#include <map>
#include <utility>

#include "kernels/runtime/error.h"
#include "parallel/groups.h"

namespace fourmi {

namespace {

/// Of the ranks of an expert axis those of one node, or those with the same place in all nodes.
std::vector<int> node_peers(std::vector<int> experts, int rank, int node_size, bool inside) {
  if (node_size == 0) return {rank};
  const auto place = std::find(experts.begin(), experts.end(), rank) - experts.begin();
  std::vector<int> ranks;
  for (std::ptrdiff_t p = 0; p < std::ssize(experts); ++p)
    if (inside ? p / node_size == place / node_size : p % node_size == place % node_size)
      ranks.push_back(experts[static_cast<std::size_t>(p)]);
  return ranks;
}

std::vector<int> peers(const Mesh& mesh, int rank, GroupKind kind, std::span<const int> embedding_stages,
                       int node_size) {
  switch (kind) {
    case GroupKind::world:
      break;
    case GroupKind::stage:
      return holders(mesh, rank, Copies::every_rank);
    case GroupKind::data_context:
      return holders(mesh, rank, Copies::tensor_peers);
    case GroupKind::expert_data:
      return holders(mesh, rank, Copies::expert_peers);
    case GroupKind::embedding:
      return embedding_holders(mesh, rank, embedding_stages);
    case GroupKind::pipeline:
      return mesh.peers(rank, {Axis::pipeline});
    case GroupKind::tensor:
      return mesh.peers(rank, {Axis::tensor});
    case GroupKind::context:
      return mesh.peers(rank, {Axis::context});
    case GroupKind::expert:
      return mesh.peers(rank, {Axis::expert});
    case GroupKind::expert_tensor:
      return mesh.peers(rank, {Axis::expert_tensor});
    case GroupKind::expert_across:
    case GroupKind::expert_inside:
      return node_peers(mesh.peers(rank, {Axis::expert}), rank, node_size, kind == GroupKind::expert_inside);
  }
  std::vector<int> all;
  for (int r = 0; r < mesh.ranks(); ++r) all.push_back(r);
  return all;
}

bool of_dispatcher(GroupKind kind) {
  return kind == GroupKind::expert_across || kind == GroupKind::expert_inside;
}

}  // namespace

const char* name_of(GroupKind kind) {
  switch (kind) {
    case GroupKind::world:
      return RankGroups::world_name;
    case GroupKind::stage:
      return RankGroups::holders_names[static_cast<std::size_t>(Copies::every_rank)];
    case GroupKind::data_context:
      return RankGroups::holders_names[static_cast<std::size_t>(Copies::tensor_peers)];
    case GroupKind::expert_data:
      return RankGroups::holders_names[static_cast<std::size_t>(Copies::expert_peers)];
    case GroupKind::embedding:
      return RankGroups::embedding_name;
    case GroupKind::pipeline:
      return RankGroups::pipeline_name;
    case GroupKind::tensor:
      return RankGroups::tensor_name;
    case GroupKind::context:
      return RankGroups::context_name;
    case GroupKind::expert:
      return RankGroups::expert_name;
    case GroupKind::expert_tensor:
      return RankGroups::expert_tensor_name;
    case GroupKind::expert_across:
      return "expert.across";
    case GroupKind::expert_inside:
      return "expert.inside";
  }
  return "?";
}

OrderGroups::OrderGroups(const Mesh& mesh, std::span<const int> embedding_stages, int node_size)
    : num_ranks_(mesh.ranks()), of_rank_(static_cast<std::size_t>(mesh.ranks()) * num_group_kinds) {
  std::map<std::pair<GroupKind, int>, int> known;  // by kind and first member
  for (int rank = 0; rank < num_ranks_; ++rank)
    for (std::size_t k = 0; k < num_group_kinds; ++k) {
      auto kind = static_cast<GroupKind>(k);
      std::vector<int> ranks = peers(mesh, rank, kind, embedding_stages, node_size);
      // The dispatcher's are its own even where they have all ranks.
      if (std::ssize(ranks) == num_ranks_ && !of_dispatcher(kind)) kind = GroupKind::world;
      const auto [at, is_new] = known.try_emplace({kind, ranks.front()}, num_groups());
      if (is_new) groups_.push_back({kind, std::move(ranks)});
      of_rank_[index(rank) * num_group_kinds + k] = at->second;
    }
}

int OrderGroups::place(int rank, GroupKind kind) const {
  const std::vector<int>& ranks = members(group_of(rank, kind));
  return static_cast<int>(std::lower_bound(ranks.begin(), ranks.end(), rank) - ranks.begin());
}

std::string OrderGroups::text(int group) const {
  const Peers& g = groups_[index(group)];
  std::string ranks;
  for (std::size_t i = 0; i < g.ranks.size() && i < 8; ++i) ranks += fmt::format("{}{}", i ? ", " : "", g.ranks[i]);
  return fmt::format("{} (ranks {}{})", name_of(g.kind), ranks, g.ranks.size() > 8 ? ", ..." : "");
}

}  // namespace fourmi
