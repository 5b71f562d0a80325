// The mixtures of axes, schedules, dispatchers, ZeRO levels and recomputation that the invariance matrix has.
#pragma once

#include <vector>

#include "tests/layouts/mixture.h"

namespace fourmi {

inline const std::vector<Mixture> mixtures = [] {
  constexpr auto selective = Recompute::selective, full = Recompute::full;
  return std::vector<Mixture>{
      // Each axis alone.
      {.ranks = 2, .tensor = 2},
      {.ranks = 4, .tensor = 4},
      {.ranks = 2, .context = 2},
      {.ranks = 4, .context = 4},
      {.ranks = 2, .pipeline = 2},
      {.ranks = 4, .pipeline = 4},
      {.ranks = 2, .expert = 2},
      {.ranks = 4, .expert = 4},
      {.ranks = 2, .expert_tensor = 2},
      {.ranks = 4, .expert_tensor = 4},
      {.ranks = 2},
      {.ranks = 4},
      // Mixtures.
      {.zero = 3},
      {.context = 8, .zero = 2},
      {.expert = 8, .bound = 1.25},
      {.tensor = 2, .context = 2, .pipeline = 2},
      {.tensor = 2, .pipeline = 2, .expert = 4, .schedule = "zb-v", .zero = 2, .recompute = selective},
      {.tensor = 2, .context = 2, .expert = 8, .node_size = 2, .zero = 3, .recompute = full},
      {.context = 2, .pipeline = 2, .expert = 2, .expert_tensor = 2, .schedule = "zb-h1"},
      {.tensor = 4, .expert = 2, .expert_tensor = 4},
      {.tensor = 2, .context = 4, .expert = 4, .expert_tensor = 2, .zero = 2},
      {.context = 4, .expert = 8, .node_size = 4},
      {.pipeline = 4, .expert = 2, .schedule = "gpipe", .zero = 2},
      {.tensor = 4, .pipeline = 2, .expert = 4, .schedule = "dualpipev", .recompute = selective},
      {.context = 4, .pipeline = 2, .expert_tensor = 4, .schedule = "gpipe", .zero = 3, .recompute = full},
      {.pipeline = 2, .expert = 4, .schedule = "interleaved", .node_size = 2, .zero = 2},
      {.pipeline = 2, .expert = 2, .expert_tensor = 2, .schedule = "zb-h1", .bound = 1.25, .zero = 3},
      {.tensor = 2, .context = 2, .pipeline = 2, .expert = 4, .schedule = "zb-v", .bound = 1.25, .zero = 3},
      {.tensor = 2,
       .context = 2,
       .pipeline = 2,
       .expert_tensor = 4,
       .schedule = "dualpipev",
       .zero = 2,
       .recompute = full},
      {.tensor = 2, .pipeline = 2, .expert = 2, .expert_tensor = 2, .schedule = "interleaved", .zero = 3},
      {.tensor = 2, .expert = 2, .expert_tensor = 4, .recompute = full},
      {.tensor = 4, .context = 2, .expert = 8, .zero = 2},
      {.tensor = 4, .context = 2, .expert = 2, .expert_tensor = 2, .bound = 1.25, .zero = 3},
      {.context = 2, .expert = 4, .expert_tensor = 2, .node_size = 2, .recompute = selective},
      {.context = 2, .pipeline = 4, .expert = 2, .zero = 2},
      {.tensor = 2, .pipeline = 4, .expert_tensor = 2, .schedule = "zb-h1", .recompute = full},
      {.pipeline = 2, .expert = 4, .schedule = "zb-v", .node_size = 4, .recompute = selective},
      {.context = 2, .expert_tensor = 2, .bound = 1.5, .zero = 3, .recompute = full},
      // Pairs that take turns phase by phase, as `.tensor = 4, .pipeline = 2, .expert = 4` above does too.
      {.tensor = 2, .pipeline = 2, .expert = 4, .schedule = "dualpipev", .node_size = 2, .zero = 2, .recompute = full},
      {.context = 2, .pipeline = 2, .expert = 2, .expert_tensor = 2, .schedule = "dualpipev"},
      // Rings, in fp64.
      {.ranks = 4, .context = 4, .ring = true},
      {.context = 4, .expert = 4, .expert_tensor = 2, .ring = true, .bound = 1.25, .zero = 3, .recompute = full},
      {.tensor = 2, .context = 2, .pipeline = 2, .expert = 4, .schedule = "zb-v", .ring = true, .zero = 2},
      {.tensor = 2, .context = 4, .expert = 8, .ring = true, .node_size = 4, .recompute = selective},
  };
}();

/// For a model that has none: more data ranks.
inline Mixture without_experts(Mixture m) {
  m.expert = m.expert_tensor = 1, m.node_size = 0, m.bound = 0;
  return m;
}

}  // namespace fourmi
