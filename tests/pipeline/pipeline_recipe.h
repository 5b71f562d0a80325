// Recipes with enough layers for eight stages, which train in milliseconds.
#pragma once

#include <string>
#include <string_view>

#include "tests/train/family_recipe.h"

namespace fourmi {

/// Latent attention, experts, MTP (its embedding and head are the first and last stages'); one dense layer.
inline Recipe deep_recipe(Compute compute, Reproducibility mode) {
  Recipe r = small_recipe(compute, mode);
  r.model.num_hidden_layers = 8;
  return r;
}

/// Grouped queries, tied embeddings: first and last stage hold the same table.
inline Recipe deep_dense_recipe(Compute compute, Reproducibility mode) {
  Recipe r = family_recipe(dense_family, compute, mode);
  r.model.num_hidden_layers = 8;
  r.model.layer_types.clear();
  return r;
}

inline Recipe with_pipeline(Recipe recipe, std::string_view schedule, int ranks,
                            Recompute recompute = Recompute::none) {
  recipe.parallel.pipeline = ranks;
  recipe.parallel.pipeline_schedule = schedule;
  recipe.parallel.virtual_stages = schedule == "interleaved" ? 2 : 1;
  recipe.memory.recompute = recompute;
  return recipe;
}

inline constexpr std::string_view schedules_that_train[] = {"gpipe", "1f1b", "interleaved",
                                                            "zb-h1", "zb-v", "dualpipev"};

}  // namespace fourmi
