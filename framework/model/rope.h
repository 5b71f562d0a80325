// The rotary embedding of a model: how many channels it turns, its table of angles, and what stretching does to the
// softmax.
#pragma once

#include "framework/recipe/recipe.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Channels of a head that are rotated.
std::int64_t rotary_dim(const ModelSection& model);
/// table [P, rotary_dim/2, 2]: positions 0..P-1, stretched by YaRN or Llama 3's rule where the model section says so.
void fill_rotary_table(const ModelSection& model, const Tensor& table_PH2);
/// What the attention's scores are multiplied with: 1 / sqrt(head), times mscale_all_dim's square where DeepSeek's YaRN
/// sets it.
double softmax_scale(const ModelSection& model);

}  // namespace fourmi
