#include "framework/capture/select.h"

#include <algorithm>
#include <cmath>

#include "kernels/numerics/exp_of_negative.h"
#include "kernels/numerics/lanes.h"

namespace fourmi {

namespace {

constexpr std::int64_t block = 64;  // columns of which one comparison says that none is among the likeliest

}  // namespace

/// A heap of the likeliest so far; a block of columns that has none above its least is passed over.
template <class T>
void TokenSelection::find_likeliest(const TeacherRow<T>& row) {
  const auto above = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  const auto V = static_cast<std::int64_t>(row.logits.size());
  const auto most = static_cast<std::size_t>(std::min(format_.entries, V));
  likeliest_.clear();
  const T* const x = row.logits.data();
  for (std::int64_t begin = 0; begin < V; begin += block) {
    const std::int64_t end = std::min(V, begin + block);
    if (likeliest_.size() == most) {
      T largest = x[begin];
      for (std::int64_t v = begin; v < end; ++v) largest = std::max(largest, x[v]);
      if (!(static_cast<double>(largest) > likeliest_.front().logit)) continue;
    }
    for (std::int64_t v = begin; v < end; ++v) {
      const Candidate here{static_cast<double>(x[v]), static_cast<std::int32_t>(v)};
      if (likeliest_.size() == most) {
        if (!above(here, likeliest_.front())) continue;
        std::pop_heap(likeliest_.begin(), likeliest_.end(), above);
        likeliest_.back() = here;
      } else {
        likeliest_.push_back(here);
      }
      std::push_heap(likeliest_.begin(), likeliest_.end(), above);
    }
  }
  std::sort_heap(likeliest_.begin(), likeliest_.end(), above);
}

template <class T>
float TokenSelection::take(const TeacherRow<T>& row, RandomKey key, std::uint64_t position, std::uint32_t* packed) {
  find_likeliest(row);
  std::fill_n(packed, format_.entries, 0u);
  if (format_.kind == CacheFormat::Kind::sampled) return take_sample(row, key, position, packed);
  double mass = 0;
  for (std::size_t k = 0; k < likeliest_.size(); ++k) {
    const double p =
        std::exp((likeliest_[k].logit - static_cast<double>(row.max)) / row.temperature) / static_cast<double>(row.sum);
    packed[k] = pack(format_, {likeliest_[k].id, p});
    mass += p;
  }
  if (static_cast<std::size_t>(format_.entries) >= row.logits.size()) return 0;  // there are no others
  return static_cast<float>(std::max(0.0, 1 - mass));
}

template <class T>
float TokenSelection::take_sample(const TeacherRow<T>& row, RandomKey key, std::uint64_t position,
                                  std::uint32_t* packed) {
  const auto V = static_cast<std::int64_t>(row.logits.size()), n = format_.entries;
  weights_.resize(static_cast<std::size_t>(V));
  double* const weights = weights_.data();
  const T* const x = row.logits.data();
  const T most = row.max, inverse = static_cast<T>(1 / row.temperature);
  for (std::int64_t v = 0; v < V; ++v) weights[v] = static_cast<double>(exp_of_negative((x[v] - most) * inverse));
  const double sum = lane_sum<double>(weights, V), by_temperature = 1 / row.temperature;
  const double products = sum_by_lanes<double>(V, [&](double& lane, std::int64_t v) {
    if (weights[v] > 0) lane += weights[v] * (static_cast<double>(x[v] - most) * by_temperature);
  });
  const auto entropy = static_cast<float>(std::log(sum) - products / sum);

  const std::uint64_t first_number = position * static_cast<std::uint64_t>(n + 1);  // of this position's
  std::int64_t taken = 0;
  const auto by_chance = [&](std::int32_t id, double p) {
    const std::uint64_t bits = random_bits(key, first_number + 1 + static_cast<std::uint64_t>(taken));
    packed[taken++] = pack_by_chance(format_, {id, p}, static_cast<std::uint32_t>(bits >> 32));
  };
  double rest = sum;
  for (const Candidate& c : likeliest_) {
    double& w = weights[c.id];
    if (!(w > 0) || w * static_cast<double>(n - taken) < rest) break;
    by_chance(c.id, w / sum);
    rest -= w;
    w = 0;
  }
  if (taken == n) return entropy;
  // What is left, without the rounding of the subtractions; block by block, as it is walked through.
  const auto of_block = [&](std::int64_t begin) {
    return lane_sum<double>(weights + begin, std::min(block, V - begin));
  };
  rest = 0;
  for (std::int64_t begin = 0; begin < V; begin += block) rest += of_block(begin);
  if (!(rest > 0)) return entropy;
  const double step = rest / static_cast<double>(n - taken);
  double until = random_uniform(key, first_number) * step, reached = 0;
  for (std::int64_t begin = 0; begin < V && taken < n; begin += block) {
    const double end = reached + of_block(begin);
    double here = reached;
    for (std::int64_t v = begin; end > until && v < std::min(V, begin + block) && taken < n; ++v) {
      here += weights[v];
      if (weights[v] == 0 || here <= until) continue;
      by_chance(static_cast<std::int32_t>(v), step / sum);
      until += step;
    }
    reached = end;
  }
  return entropy;
}

template float TokenSelection::take(const TeacherRow<float>&, RandomKey, std::uint64_t, std::uint32_t*);
template float TokenSelection::take(const TeacherRow<double>&, RandomKey, std::uint64_t, std::uint32_t*);

}  // namespace fourmi
