#include "framework/model/sampling.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/numerics/math.h"
#include "kernels/numerics/random.h"

namespace fourmi {

std::int32_t sample(std::span<const double> logits, const Sampling& s, std::int64_t index, std::int64_t banned_from) {
  const auto n =
      static_cast<std::size_t>(std::min<std::int64_t>(banned_from, static_cast<std::int64_t>(logits.size())));
  if (s.temperature <= 0)  // of equals the first
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(n)) -
                                     logits.begin());
  std::vector<std::int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  std::sort(order.begin(), order.end(),
            [&](std::int32_t a, std::int32_t b) { return logit(a) != logit(b) ? logit(a) > logit(b) : a < b; });
  std::vector<double> probability(n);
  double total = 0;
  for (std::size_t i = 0; i < n; ++i)
    total += probability[i] = fourmi::exp((logit(order[i]) - logit(order[0])) / s.temperature);
  double kept = 0;
  std::size_t count = 0;
  while (count < n && (count == 0 || kept < s.top_p * total)) kept += probability[count++];
  double u = random_uniform(random_key(s.seed, "sample", ""), static_cast<std::uint64_t>(index)) * kept;
  for (std::size_t i = 0; i < count; ++i) {
    u -= probability[i];
    if (u < 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace fourmi
