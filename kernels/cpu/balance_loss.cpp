// The sequence-wise balance loss of kernels/ops/routing.h.
#include <algorithm>
#include <span>

#include "kernels/cpu/routing_top_k.h"
#include "kernels/numerics/lanes.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/routing.h"
#include "kernels/runtime/visit.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {
namespace {

constexpr double epsilon = 1e-20;  // keeps a row of vanished scores finite, as in the normalisation of the weights
constexpr std::int64_t num_blocks = 16, chunk = 32;

/// What the tokens of one sequence share.
template <class T>
struct Sequence {
  std::int64_t num_tokens, num_experts;
  const T* scores;  // [T, E]
  T* dscores;       // [T, E]; holds the normalised scores until the gradient replaces them
};

template <class T>
T row_sum(const T* scores, std::int64_t num_experts) {
  return lane_sum<T>(scores, num_experts) + static_cast<T>(epsilon);
}

/// Of one sequence, in the thread's working memory.
template <class T>
struct Workspace {
  explicit Workspace(std::int64_t E) {
    using Parts = WorkingParts;
    Parts parts(WorkingUse::experts, 2 * Parts::bytes<T>(E) + Parts::bytes<OrderKey<T>>(E) +
                                         2 * Parts::bytes<std::int32_t>(E) + Parts::bytes<std::int64_t>(E));
    const auto n = static_cast<std::size_t>(E);
    fraction = {parts.take<T>(E), n}, total = {parts.take<T>(E), n};
    keys = {parts.take<OrderKey<T>>(E), n};
    ids = {parts.take<std::int32_t>(E), n}, scratch = {parts.take<std::int32_t>(E), n};
    counts = {parts.take<std::int64_t>(E), n};
    std::fill(counts.begin(), counts.end(), 0);
  }
  std::span<T> fraction, total;
  std::span<OrderKey<T>> keys;
  std::span<std::int32_t> ids, scratch;
  std::span<std::int64_t> counts;
};

/// fraction[e] = E / (K T) * how many tokens have e among the K best of their unbiased scores.
template <class T>
void choice_fractions(const Sequence<T>& s, std::int64_t num_chosen, Workspace<T>& w) {
  auto& [fraction, total, keys, ids, scratch, counts] = w;
  for (std::int64_t t = 0; t < s.num_tokens; ++t) {
    for (std::size_t e = 0; e < keys.size(); ++e)
      keys[e] = order_key(s.scores[t * s.num_experts + static_cast<std::int64_t>(e)]);
    take_top_k(keys.data(), s.num_experts, num_chosen, ids.data(), scratch.data());
    for (std::int64_t k = 0; k < num_chosen; ++k) ++counts[static_cast<std::size_t>(ids[static_cast<std::size_t>(k)])];
  }
  const T unit = static_cast<T>(static_cast<double>(s.num_experts) / static_cast<double>(num_chosen * s.num_tokens));
  for (std::size_t e = 0; e < fraction.size(); ++e) fraction[e] = static_cast<T>(counts[e]) * unit;
}

/// total[e] = sum over tokens of the normalised scores: ascending inside a block, blocks by a binary tree of
/// neighbours.
template <class T>
void sum_over_tokens(const Sequence<T>& s, std::span<T> total) {
  const bool cut = s.num_tokens % num_blocks == 0;
  const std::int64_t block = cut ? s.num_tokens / num_blocks : s.num_tokens, blocks = cut ? num_blocks : 1;
  for (std::int64_t first = 0; first < s.num_experts; first += chunk) {
    const std::int64_t n = std::min(chunk, s.num_experts - first);
    T partial[num_blocks][chunk] = {};
    for (std::int64_t t = 0; t < s.num_tokens; ++t) {
      const T* row = s.dscores + t * s.num_experts + first;
      T* sum = partial[t / block];
      for (std::int64_t e = 0; e < n; ++e) sum[e] += row[e];
    }
    for (std::int64_t step = 1; step < blocks; step *= 2)
      for (std::int64_t b = 0; b < blocks; b += 2 * step)
        for (std::int64_t e = 0; e < n; ++e) partial[b][e] += partial[b + step][e];
    std::copy_n(partial[0], n, total.begin() + first);
  }
}

/// Returns the loss times T and writes the gradient.
template <class T>
T balance_sequence(const Sequence<T>& s, T coefficient, std::int64_t num_chosen) {
  Workspace<T> w(s.num_experts);
  const std::span<T> fraction = w.fraction, total = w.total;
  choice_fractions(s, num_chosen, w);
  for (std::int64_t t = 0; t < s.num_tokens; ++t) {
    const T* scores = s.scores + t * s.num_experts;
    T* normalised = s.dscores + t * s.num_experts;
    const T sum = row_sum(scores, s.num_experts);
    for (std::int64_t e = 0; e < s.num_experts; ++e) normalised[e] = scores[e] / sum;
  }
  sum_over_tokens(s, total);
  for (std::int64_t t = 0; t < s.num_tokens; ++t) {
    T* d = s.dscores + t * s.num_experts;
    const T mean = lane_dot<T>(fraction.data(), d, s.num_experts);
    const T factor = coefficient / row_sum(s.scores + t * s.num_experts, s.num_experts);
    for (std::int64_t e = 0; e < s.num_experts; ++e) d[e] = factor * (fraction[static_cast<std::size_t>(e)] - mean);
  }
  return coefficient * lane_dot<T>(fraction.data(), total.data(), s.num_experts);
}

}  // namespace

void balance_loss(const Stream& stream, double coefficient, std::int64_t tokens_per_sequence, std::int64_t num_chosen,
                  const Tensor& scores_ME, const Tensor& loss_S, const Tensor& dscores_ME) {
  const Span span(stream.timeline(), Work::router, "balance_loss");
  const std::int64_t num_experts = scores_ME.dim(1), num_sequences = loss_S.dim(0);
  FOURMI_CHECK(scores_ME.dim(0) == num_sequences * tokens_per_sequence && num_chosen >= 1 &&
                   num_chosen <= num_experts && dscores_ME.num_elements() == scores_ME.num_elements(),
               "scores {}, {} sequences of {} tokens, {} chosen, dscores {}", to_string(scores_ME.shape), num_sequences,
               tokens_per_sequence, num_chosen, to_string(dscores_ME.shape));
  visit_accumulator(scores_ME.dtype, "balance_loss", [&]<class T>(std::type_identity<T>) {
    const T* scores = scores_ME.as<T>();
    T *dscores = dscores_ME.as<T>(), *loss = loss_S.as<T>();
    stream.pool().parallel_for(num_sequences, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t first = i * tokens_per_sequence * num_experts;
        loss[i] = balance_sequence<T>({tokens_per_sequence, num_experts, scores + first, dscores + first},
                                      static_cast<T>(coefficient), num_chosen);
      }
    });
  });
}

}  // namespace fourmi
