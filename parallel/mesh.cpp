#include "parallel/mesh.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr std::int64_t most_ranks = std::numeric_limits<std::int32_t>::max();

bool is_expert_view(Axis axis) {
  return axis == Axis::expert_data || axis == Axis::expert || axis == Axis::expert_tensor;
}

// Products of sizes that a user wrote, kept within what they are compared with.
std::int64_t product(std::initializer_list<std::int64_t> factors) {
  std::int64_t p = 1;
  for (std::int64_t f : factors)
    if (__builtin_mul_overflow(p, f, &p) || p > most_ranks) return most_ranks + 1;
  return p;
}

}  // namespace

std::string_view name_of(Axis axis) {
  switch (axis) {
    case Axis::pipeline:
      return "pipeline";
    case Axis::data:
      return "data";
    case Axis::context:
      return "context";
    case Axis::tensor:
      return "tensor";
    case Axis::expert_data:
      return "expert_data";
    case Axis::expert:
      return "expert";
    case Axis::expert_tensor:
      return "expert_tensor";
  }
  return "?";
}

std::vector<MeshProblem> check_mesh(const MeshSizes& s) {
  std::vector<MeshProblem> problems;
  const auto at_least_one = [&](const char* key, std::int64_t size) {
    if (size < 1) problems.push_back({key, fmt::format("found {}, expected at least 1", size), ""});
  };
  at_least_one("ranks", s.ranks);
  at_least_one("parallel.tensor", s.tensor);
  at_least_one("parallel.pipeline", s.pipeline);
  at_least_one("parallel.context", s.context);
  at_least_one("parallel.expert", s.expert);
  at_least_one("parallel.expert_tensor", s.expert_tensor);
  if (s.data) at_least_one("parallel.data", *s.data);
  if (!problems.empty()) return problems;

  const std::int64_t per_replica = product({s.pipeline, s.context, s.tensor});
  const std::string replica = fmt::format("pipeline {} x context {} x tensor {}", s.pipeline, s.context, s.tensor);
  if (s.ranks % per_replica != 0) {
    problems.push_back({"parallel",
                        fmt::format("found {} ranks, expected a multiple of {} ({})", s.ranks, per_replica, replica),
                        "Start another number of ranks, or change the sizes"});
    return problems;
  }
  const std::int64_t data = s.ranks / per_replica, inner = s.ranks / s.pipeline;
  if (s.data && *s.data != data)
    problems.push_back({"parallel.data",
                        fmt::format("found {}, expected {} ({} ranks / ({}))", *s.data, data, s.ranks, replica),
                        "Start another number of ranks, or leave the key out"});
  const std::string stage = fmt::format("data {} x context {} x tensor {}", data, s.context, s.tensor);
  if (inner % s.expert_tensor != 0)
    problems.push_back({"parallel.expert_tensor",
                        fmt::format("found {}, expected a divisor of {} ({})", s.expert_tensor, inner, stage), ""});
  else if (inner / s.expert_tensor % s.expert != 0)
    problems.push_back(
        {"parallel.expert",
         fmt::format("found {}, expected a divisor of {} ({}{})", s.expert, inner / s.expert_tensor, stage,
                     s.expert_tensor > 1 ? fmt::format(", / expert_tensor {}", s.expert_tensor) : ""),
         ""});
  return problems;
}

std::int64_t least_ranks(const MeshSizes& s) {
  const std::int64_t dense = product({s.context, s.tensor}), experts = product({s.expert, s.expert_tensor});
  const std::int64_t wanted = s.data ? product({dense, *s.data}) : std::lcm(dense, experts);
  return product({s.pipeline, wanted});
}

Mesh::Mesh(const MeshSizes& s) {
  if (const auto problems = check_mesh(s); !problems.empty())
    throw Error(ExitStatus::usage, problems[0].key, problems[0].cause, problems[0].remedy);
  if (s.ranks > most_ranks)
    throw Error(ExitStatus::usage, "ranks", fmt::format("found {}, expected at most {}", s.ranks, most_ranks));
  const auto set = [&](Axis axis, std::int64_t size) {
    sizes_[static_cast<std::size_t>(axis)] = static_cast<int>(size);
  };
  ranks_ = static_cast<int>(s.ranks);
  set(Axis::pipeline, s.pipeline);
  set(Axis::data, s.ranks / (s.pipeline * s.context * s.tensor));
  set(Axis::context, s.context);
  set(Axis::tensor, s.tensor);
  set(Axis::expert_data, s.ranks / (s.pipeline * s.expert * s.expert_tensor));
  set(Axis::expert, s.expert);
  set(Axis::expert_tensor, s.expert_tensor);
}

int Mesh::stride(Axis axis) const {
  switch (axis) {
    case Axis::tensor:
    case Axis::expert_tensor:
      return 1;
    case Axis::context:
      return size(Axis::tensor);
    case Axis::data:
      return size(Axis::tensor) * size(Axis::context);
    case Axis::expert:
      return size(Axis::expert_tensor);
    case Axis::expert_data:
      return size(Axis::expert_tensor) * size(Axis::expert);
    case Axis::pipeline:
      return ranks_ / size(Axis::pipeline);
  }
  return 1;
}

int Mesh::coordinate(int rank, Axis axis) const {
  FOURMI_CHECK(0 <= rank && rank < ranks_, "rank {} of {}", rank, ranks_);
  return rank / stride(axis) % size(axis);
}

std::vector<int> Mesh::peers(int rank, std::initializer_list<Axis> axes) const {
  std::vector<int> found{rank};
  bool dense = false, expert = false;
  for (Axis axis : axes) {
    dense |= axis != Axis::pipeline && !is_expert_view(axis);
    expert |= is_expert_view(axis);
    FOURMI_CHECK(!(dense && expert), "peers along {}, an axis of the other view", name_of(axis));
    std::vector<int> wider;
    for (int base : found)
      for (int i = 0; i < size(axis); ++i) wider.push_back(base + (i - coordinate(base, axis)) * stride(axis));
    found = std::move(wider);
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string Mesh::table(int most_rows) const {
  std::string text = "  rank";
  for (Axis axis : all_axes) text += fmt::format("  {}", name_of(axis));
  text += "\n  size";
  for (Axis axis : all_axes) text += fmt::format("  {:>{}}", size(axis), name_of(axis).size());
  text += "\n";
  const bool cut = ranks_ > most_rows;
  for (int rank = 0; rank < ranks_; ++rank) {
    if (cut && rank == most_rows / 2) {
      text += fmt::format("   ...  ({} ranks like these)\n", ranks_ - most_rows / 2 * 2);
      rank = ranks_ - most_rows / 2;
    }
    text += fmt::format("{:>6}", rank);
    for (Axis axis : all_axes) text += fmt::format("  {:>{}}", coordinate(rank, axis), name_of(axis).size());
    text += "\n";
  }
  return text;
}

std::unique_ptr<Group> make_group(Group& world, const Mesh& mesh, std::string name, std::initializer_list<Axis> axes) {
  FOURMI_CHECK(world.size() == mesh.ranks(), "a mesh of {} ranks over a world of {}", mesh.ranks(), world.size());
  return world.subgroup(std::move(name), mesh.peers(world.rank(), axes));
}

}  // namespace fourmi
