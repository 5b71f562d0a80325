// The mesh: which rank holds which part along each axis. One set of ranks, two views (docs/parallel.md):
//   dense   pipeline x data x context x tensor                       tensor runs fastest
//   expert  pipeline x expert_data x expert x expert_tensor          expert_tensor runs fastest
// with expert_tensor x expert x expert_data = tensor x context x data inside each pipeline stage. Consecutive ranks run
// tensor (expert_tensor) first, then context (expert), then data (expert_data), then pipeline.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/group.h"

namespace fourmi {

enum class Axis : std::uint8_t { pipeline, data, context, tensor, expert_data, expert, expert_tensor };
inline constexpr std::array all_axes{Axis::pipeline,    Axis::data,   Axis::context,      Axis::tensor,
                                     Axis::expert_data, Axis::expert, Axis::expert_tensor};

std::string_view name_of(Axis axis);

/// The sizes that a recipe asks for, and the number of ranks that there are.
struct MeshSizes {
  std::int64_t ranks = 1;
  std::int64_t pipeline = 1, context = 1, tensor = 1;
  std::int64_t expert = 1, expert_tensor = 1;
  std::optional<std::int64_t> data = std::nullopt;  ///< an assertion: data is what the other axes leave
};

/// One thing that is wrong with the sizes.
struct MeshProblem {
  std::string key;    ///< "parallel.expert"
  std::string cause;  ///< "found 3, expected a divisor of 8 (data 4 x context 1 x tensor 2)"
  std::string remedy;
};

/// Everything that is wrong with the sizes; empty if they make a mesh.
std::vector<MeshProblem> check_mesh(const MeshSizes& sizes);
/// The least number of ranks that the sizes allow (what a dry run without ranks uses). Sizes are at least 1.
std::int64_t least_ranks(const MeshSizes& sizes);

class Mesh {
 public:
  /// Throws Error(usage) with the first of check_mesh's problems.
  explicit Mesh(const MeshSizes& sizes);

  int ranks() const { return ranks_; }
  int size(Axis axis) const { return sizes_[static_cast<std::size_t>(axis)]; }
  int coordinate(int rank, Axis axis) const;
  /// The ranks that differ from `rank` along these axes of one view only, itself included, ascending:
  /// {data, context} are those that sum a dense gradient, {expert_data} those that sum an expert's.
  std::vector<int> peers(int rank, std::initializer_list<Axis> axes) const;

  /// One row a rank with its coordinates in both views; the middle of a long table is left out.
  std::string table(int most_rows = 64) const;

 private:
  int stride(Axis axis) const;
  int ranks_ = 1;
  std::array<int, all_axes.size()> sizes_{};
};

/// This rank's group along the axes; collective among its members, and all of `world` must call it in the same order.
std::unique_ptr<Group> make_group(Group& world, const Mesh& mesh, std::string name, std::initializer_list<Axis> axes);

}  // namespace fourmi
