#include "kernels/ops/routing.h"

#include <algorithm>
#include <span>

#include "kernels/cpu/routing_top_k.h"
#include "kernels/numerics/lanes.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {
namespace {

constexpr double epsilon = 1e-20;  // of the normalisation, as in DeepSeek's code

std::int64_t token_grain(std::int64_t num_experts) {
  return std::max<std::int64_t>(1, 8192 / num_experts);
}

template <class T>
void score(Scoring scoring, const T* logits, T* scores, std::int64_t n) {
  if (scoring == Scoring::sigmoid) {
    for (std::int64_t e = 0; e < n; ++e) scores[e] = sigmoid(logits[e]);
    return;
  }
  T most = logits[0];
  for (std::int64_t e = 1; e < n; ++e) most = logits[e] > most ? logits[e] : most;
  for (std::int64_t e = 0; e < n; ++e) scores[e] = exp(logits[e] - most);
  const T sum = lane_sum<T>(scores, n);
  for (std::int64_t e = 0; e < n; ++e) scores[e] /= sum;
}

/// The selection of one token, in the thread's working memory.
template <class T>
class Selector {
 public:
  Selector(const Routing& r, std::int64_t num_experts, std::int64_t num_chosen)
      : routing_(r), group_size_(num_experts / r.num_groups), num_chosen_(num_chosen) {
    using Key = OrderKey<T>;
    const std::int64_t E = num_experts, G = r.num_groups;
    WorkingParts parts(WorkingUse::experts, WorkingParts::bytes<T>(E) + WorkingParts::bytes<Key>(E) +
                                                WorkingParts::bytes<std::int32_t>(E) + WorkingParts::bytes<Key>(G) +
                                                WorkingParts::bytes<std::int32_t>(G));
    const auto experts = static_cast<std::size_t>(E), groups = static_cast<std::size_t>(G);
    values_ = {parts.take<T>(E), experts};
    keys_ = {parts.take<Key>(E), experts};
    scratch_ = {parts.take<std::int32_t>(E), experts};
    groups_ = {parts.take<Key>(G), groups};
    kept_ = {parts.take<std::int32_t>(G), groups};
  }

  /// Writes the ids of the chosen experts, ascending; `bias` may be null.
  void select(const T* scores, const T* bias, std::int32_t* chosen) {
    for (std::size_t e = 0; e < values_.size(); ++e) values_[e] = bias ? scores[e] + bias[e] : scores[e];
    for (std::size_t e = 0; e < values_.size(); ++e) keys_[e] = order_key(values_[e]);
    if (groups_.size() > 1) limit_groups();
    take_top_k(keys_.data(), std::ssize(keys_), num_chosen_, chosen, scratch_.data());
  }

 private:
  void limit_groups() {
    for (std::size_t g = 0; g < groups_.size(); ++g)
      groups_[g] = order_key(rank_group(values_.data() + static_cast<std::int64_t>(g) * group_size_));
    take_top_k(groups_.data(), std::ssize(groups_), routing_.topk_group, kept_.data(), scratch_.data());
    for (std::size_t g = 0; g < groups_.size(); ++g)
      if (groups_[g] != excluded_key<T>)  // not taken
        std::fill_n(keys_.begin() + static_cast<std::int64_t>(g) * group_size_, group_size_, excluded_key<T>);
  }

  T rank_group(const T* values) const {
    T best = -std::numeric_limits<T>::infinity(), second = best;
    for (std::int64_t e = 0; e < group_size_; ++e) {
      second = values[e] > best ? best : (values[e] > second ? values[e] : second);
      best = values[e] > best ? values[e] : best;
    }
    return routing_.group_score == GroupScore::max || group_size_ == 1 ? best : best + second;
  }

  Routing routing_;
  std::int64_t group_size_ = 1, num_chosen_ = 1;
  std::span<T> values_;
  std::span<OrderKey<T>> keys_, groups_;
  std::span<std::int32_t> kept_, scratch_;
};

template <class T>
T sum_chosen(const T* scores, const std::int32_t* experts, std::int64_t num_chosen) {
  T sum = 0;
  for (std::int64_t k = 0; k < num_chosen; ++k) sum += scores[experts[k]];
  return sum + static_cast<T>(epsilon);
}

}  // namespace

void routing_forward(const Stream& stream, const Routing& routing, const Tensor& logits_ME, const Tensor& bias_E,
                     const Tensor& scores_ME, const Tensor& experts_MK, const Tensor& weights_MK) {
  FOURMI_DOOR(routing_forward, stream, routing, logits_ME, bias_E, scores_ME, experts_MK, weights_MK);
  const Span span(stream.timeline(), Work::router, "routing_forward");
  const std::int64_t num_tokens = logits_ME.dim(0), num_experts = logits_ME.dim(1), num_chosen = experts_MK.dim(1);
  FOURMI_CHECK(scores_ME.num_elements() == logits_ME.num_elements() && experts_MK.dim(0) == num_tokens &&
                   weights_MK.num_elements() == experts_MK.num_elements() && (!bias_E || bias_E.dim(0) == num_experts),
               "logits {}, bias {}, scores {}, experts {}, weights {}", to_string(logits_ME.shape),
               to_string(bias_E.shape), to_string(scores_ME.shape), to_string(experts_MK.shape),
               to_string(weights_MK.shape));
  FOURMI_CHECK(routing.num_groups >= 1 && num_experts % routing.num_groups == 0 && routing.topk_group >= 1 &&
                   routing.topk_group <= routing.num_groups && num_chosen >= 1 &&
                   num_chosen <= num_experts / routing.num_groups * routing.topk_group,
               "{} of {} experts in {} of {} groups", num_chosen, num_experts, routing.topk_group, routing.num_groups);
  visit_accumulator(logits_ME.dtype, "routing", [&]<class T>(std::type_identity<T>) {
    const T *logits = logits_ME.as<T>(), *bias = bias_E ? bias_E.as<T>() : nullptr;
    T *scores = scores_ME.as<T>(), *weights = weights_MK.as<T>();
    auto* experts = experts_MK.as<std::int32_t>();
    const T factor = static_cast<T>(routing.scaling_factor);
    stream.pool().parallel_for(num_tokens, token_grain(num_experts), [&](std::int64_t begin, std::int64_t end) {
      Selector<T> selector(routing, num_experts, num_chosen);
      for (std::int64_t t = begin; t < end; ++t) {
        T* row = scores + t * num_experts;
        score(routing.scoring, logits + t * num_experts, row, num_experts);
        std::int32_t* chosen = experts + t * num_chosen;
        selector.select(row, bias, chosen);
        const T sum = sum_chosen(row, chosen, num_chosen);
        for (std::int64_t k = 0; k < num_chosen; ++k) {
          const T chosen_score = row[chosen[k]];
          weights[t * num_chosen + k] = (routing.normalise ? chosen_score / sum : chosen_score) * factor;
        }
      }
    });
  });
}

void routing_backward(const Stream& stream, const Routing& routing, const Tensor& dweights_MK, const Tensor& scores_ME,
                      const Tensor& experts_MK, const Tensor& dscores_ME, const Tensor& dlogits_ME) {
  FOURMI_DOOR(routing_backward, stream, routing, dweights_MK, scores_ME, experts_MK, dscores_ME, dlogits_ME);
  const Span span(stream.timeline(), Work::router, "routing_backward");
  const std::int64_t num_tokens = scores_ME.dim(0), num_experts = scores_ME.dim(1), num_chosen = experts_MK.dim(1);
  FOURMI_CHECK(dlogits_ME.num_elements() == scores_ME.num_elements() && experts_MK.dim(0) == num_tokens &&
                   dweights_MK.num_elements() == experts_MK.num_elements() &&
                   (!dscores_ME || dscores_ME.num_elements() == scores_ME.num_elements()),
               "dweights {}, scores {}, experts {}, dscores {}, dlogits {}", to_string(dweights_MK.shape),
               to_string(scores_ME.shape), to_string(experts_MK.shape), to_string(dscores_ME.shape),
               to_string(dlogits_ME.shape));
  visit_accumulator(scores_ME.dtype, "routing", [&]<class T>(std::type_identity<T>) {
    const T *scores = scores_ME.as<T>(), *dense = dscores_ME ? dscores_ME.as<T>() : nullptr;
    const T* dweights = dweights_MK.as<T>();
    const auto* experts = experts_MK.as<std::int32_t>();
    T* dlogits = dlogits_ME.as<T>();
    const T factor = static_cast<T>(routing.scaling_factor);
    stream.pool().parallel_for(num_tokens, token_grain(num_experts), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const T *s = scores + t * num_experts, *dw = dweights + t * num_chosen;
        const std::int32_t* chosen = experts + t * num_chosen;
        T* d = dlogits + t * num_experts;  // first the gradient of the scores, then that of the logits
        if (dense) {
          if (d != dense + t * num_experts) std::copy_n(dense + t * num_experts, num_experts, d);
        } else {
          std::fill_n(d, num_experts, T{0});
        }
        const T sum = sum_chosen(s, chosen, num_chosen);
        T dot = 0;  // of the normalised weights and their gradients
        for (std::int64_t k = 0; k < num_chosen; ++k) dot = fma(dw[k] * factor, s[chosen[k]] / sum, dot);
        for (std::int64_t k = 0; k < num_chosen; ++k)
          d[chosen[k]] += routing.normalise ? (dw[k] * factor - dot) / sum : dw[k] * factor;
        if (routing.scoring == Scoring::sigmoid) {
          for (std::int64_t e = 0; e < num_experts; ++e) d[e] *= s[e] * (T{1} - s[e]);
        } else {
          const T mean = lane_dot<T>(d, s, num_experts);
          for (std::int64_t e = 0; e < num_experts; ++e) d[e] = s[e] * (d[e] - mean);
        }
      }
    });
  });
}

void count_choices(const Stream& stream, const Tensor& experts_MK, const Tensor& counts_E) {
  FOURMI_DOOR(count_choices, stream, experts_MK, counts_E);
  const Span span(stream.timeline(), Work::router, "count_choices");
  const auto* experts = experts_MK.as<std::int32_t>();
  auto* counts = counts_E.as<std::int64_t>();
  const std::int64_t n = experts_MK.num_elements(), num_experts = counts_E.num_elements();
  for (std::int64_t i = 0; i < n; ++i) {
    FOURMI_CHECK(experts[i] >= 0 && experts[i] < num_experts, "expert {} of {}", experts[i], num_experts);
    ++counts[experts[i]];
  }
}

}  // namespace fourmi
