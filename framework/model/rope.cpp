#include "framework/model/rope.h"

#include <cmath>

#include "framework/model/family.h"
#include "kernels/ops/rotary.h"

namespace fourmi {

namespace {

double original_positions(const ModelSection& m) {
  const std::int64_t given = m.rope_scaling->original_max_position_embeddings;
  return static_cast<double>(given > 0 ? given : m.max_position_embeddings);
}

Yarn yarn_of(const ModelSection& m) {
  const RopeScaling& s = *m.rope_scaling;
  return {.factor = s.factor,
          .original_max_position = original_positions(m),
          .beta_fast = s.beta_fast,
          .beta_slow = s.beta_slow,
          .truncate = s.truncate};
}

/// What YaRN multiplies sin and cos with. DeepSeek's code always takes the ratio of both scales; transformers takes it,
/// for the other families, only where both are given.
double attention_factor(const ModelSection& m) {
  const RopeScaling& s = *m.rope_scaling;
  if (s.attention_factor) return *s.attention_factor;
  if (has_latent_attention(m) || (s.mscale != 0 && s.mscale_all_dim != 0))
    return yarn_mscale(s.factor, s.mscale) / yarn_mscale(s.factor, s.mscale_all_dim);
  return yarn_mscale(s.factor, 1.0);
}

}  // namespace

std::int64_t rotary_dim(const ModelSection& m) {
  return has_latent_attention(m) ? m.qk_rope_head_dim : m.head_dim;
}

void fill_rotary_table(const ModelSection& m, const Tensor& table_PH2) {
  const std::int64_t dim = rotary_dim(m);
  if (!m.rope_scaling) {
    rotary_table(rotary_frequencies(dim, m.rope_theta), 1.0, table_PH2);
  } else if (m.rope_scaling->type == "llama3") {
    const RopeScaling& s = *m.rope_scaling;
    const Llama3Scaling scaling{s.factor, original_positions(m), s.low_freq_factor.value_or(1),
                                s.high_freq_factor.value_or(4)};
    rotary_table(stretched(rotary_frequencies(dim, m.rope_theta), scaling), 1.0, table_PH2);
  } else {
    const Yarn yarn = yarn_of(m);
    rotary_table(rotary_frequencies(dim, m.rope_theta, &yarn), attention_factor(m), table_PH2);
  }
}

double softmax_scale(const ModelSection& m) {
  double scale = 1.0 / std::sqrt(static_cast<double>(score_head_dim(m)));
  if (has_latent_attention(m) && m.rope_scaling && m.rope_scaling->mscale_all_dim != 0) {
    const double mscale = yarn_mscale(m.rope_scaling->factor, m.rope_scaling->mscale_all_dim);
    scale *= mscale * mscale;
  }
  return scale;
}

}  // namespace fourmi
