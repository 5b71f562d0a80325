#include "framework/model/sampling.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/numerics/math.h"
#include "kernels/numerics/random.h"

namespace fourmi {

namespace {

/// Ids from the likeliest on, of equals the smaller first; sorted as far as somebody looks, since the first few hold
/// most of the probability and a vocabulary is large.
class Likeliest {
 public:
  explicit Likeliest(std::span<const double> logits) : logits_(logits), order_(logits.size()) {
    std::iota(order_.begin(), order_.end(), 0);
  }
  std::int32_t operator[](std::size_t rank) {
    while (rank >= sorted_) sort_on();
    return order_[rank];
  }

 private:
  void sort_on() {
    const auto begin = order_.begin() + static_cast<std::ptrdiff_t>(sorted_);
    sorted_ = std::min(order_.size(), std::max<std::size_t>(64, 8 * sorted_));
    const auto end = order_.begin() + static_cast<std::ptrdiff_t>(sorted_);
    std::partial_sort(begin, end, order_.end(), [&](std::int32_t a, std::int32_t b) {
      const double x = logits_[static_cast<std::size_t>(a)], y = logits_[static_cast<std::size_t>(b)];
      return x != y ? x > y : a < b;
    });
  }

  std::span<const double> logits_;
  std::vector<std::int32_t> order_;
  std::size_t sorted_ = 0;
};

}  // namespace

std::int32_t sample(std::span<const double> logits, const Sampling& s, std::int64_t index, std::int64_t banned_from) {
  const auto n =
      static_cast<std::size_t>(std::min<std::int64_t>(banned_from, static_cast<std::int64_t>(logits.size())));
  if (s.temperature <= 0)  // of equals the first
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(n)) -
                                     logits.begin());
  const double largest = *std::max_element(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(n));
  std::vector<double> probability(n);  // times `total`, by id
  double total = 0;
  for (std::size_t i = 0; i < n; ++i) total += probability[i] = fourmi::exp((logits[i] - largest) / s.temperature);
  Likeliest order(logits.first(n));
  auto of = [&](std::size_t rank) { return probability[static_cast<std::size_t>(order[rank])]; };
  double kept = total;
  std::size_t count = n;
  if (s.top_p < 1)
    for (kept = 0, count = 0; count < n && (count == 0 || kept < s.top_p * total);) kept += of(count++);
  double u = random_uniform(random_key(s.seed, "sample", ""), static_cast<std::uint64_t>(index)) * kept;
  for (std::size_t i = 0; i < count; ++i) {
    u -= of(i);
    if (u < 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace fourmi
