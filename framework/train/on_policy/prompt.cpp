#include "framework/train/on_policy/prompt.h"

#include <algorithm>

namespace fourmi {

OwnPrompt prompt_of(const Batch& sample, const WindowShape& shape, bool learns_a_part, const OnPolicySection& recipe,
                    const std::function<bool(std::int32_t)>& is_special) {
  const std::int64_t T = sample.sequence_length;
  const std::vector<std::int32_t>& targets = sample.targets;
  const auto counted = [](std::int32_t target) { return target >= 0; };
  OwnPrompt p;
  p.targets = std::count_if(targets.begin(), targets.end(), counted);
  p.mtp_targets = std::count_if(sample.mtp_targets.begin(), sample.mtp_targets.end(), counted);
  if (p.targets == 0) return p;
  if (learns_a_part) {
    const auto first = std::find_if(targets.begin(), targets.end(), counted);
    const auto last = std::find_if_not(first, targets.end(), counted) - 1;
    p.tokens = first - targets.begin() + 1;
    if (is_special(*last)) p.end = *last;
    p.most = T - p.tokens + 1;
  } else {
    p.tokens = recipe.prompt_tokens.value_or(T / 2);
    const std::int64_t real = p.targets;  // every row has one
    if (real <= p.tokens) return p;
    p.most = (shape.packing ? real : T) - p.tokens + 1;
  }
  p.most = std::min(p.most, recipe.max_new_tokens.value_or(T));
  return p;
}

}  // namespace fourmi
