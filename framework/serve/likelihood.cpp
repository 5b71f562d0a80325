#include "framework/serve/likelihood.h"

#include <algorithm>
#include <numeric>

#include "kernels/numerics/math.h"

namespace fourmi {

WrittenToken token_of(std::span<const double> logits, std::int32_t token, int num_likeliest) {
  WrittenToken result{.token = token};
  if (num_likeliest < 0) return result;
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double l : logits) sum += fourmi::exp(l - largest);
  const double log_sum = largest + fourmi::log(sum);
  auto logprob = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)] - log_sum; };
  result.logprob = logprob(token);
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto count = std::min<std::ptrdiff_t>(num_likeliest, std::ssize(ids));
  std::partial_sort(ids.begin(), ids.begin() + count, ids.end(), [&](std::int32_t a, std::int32_t b) {
    const double la = logits[static_cast<std::size_t>(a)], lb = logits[static_cast<std::size_t>(b)];
    return la != lb ? la > lb : a < b;
  });
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const std::int32_t id = ids[static_cast<std::size_t>(i)];
    result.likeliest.push_back({id, logprob(id)});
  }
  return result;
}

}  // namespace fourmi
