// The sequence-wise balance loss of kernels/ops/routing.h: partials of blocks of tokens, and what follows from all
// blocks of a sequence.
#include <algorithm>

#include "kernels/cpu/routing_top_k.h"
#include "kernels/numerics/lanes.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/door.h"
#include "kernels/ops/routing.h"
#include "kernels/runtime/visit.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {
namespace {

constexpr double epsilon = 1e-20;  // keeps a row of vanished scores finite, as in the normalisation of the weights
constexpr std::int64_t num_blocks = 16;

std::int64_t blocks_of(std::int64_t tokens_per_sequence) {
  return tokens_per_sequence % num_blocks == 0 ? num_blocks : 1;
}

template <class T>
T row_sum(const T* scores, std::int64_t num_experts) {
  return lane_sum<T>(scores, num_experts) + static_cast<T>(epsilon);
}

/// Partials of consecutive blocks, [block][E] each.
template <class T>
struct Partials {
  std::int32_t* counts;
  T* sums;
};

/// Of one block or sequence, in the thread's working memory: room for one row, and for the partials of `blocks` blocks.
template <class T>
struct Workspace {
  Workspace(std::int64_t E, std::int64_t blocks) {
    using Parts = WorkingParts;
    Parts parts(WorkingUse::experts, 3 * Parts::bytes<T>(E) + Parts::bytes<OrderKey<T>>(E) +
                                         2 * Parts::bytes<std::int32_t>(E) + Parts::bytes<T>(blocks * E) +
                                         Parts::bytes<std::int32_t>(blocks * E));
    row = parts.take<T>(E), fraction = parts.take<T>(E), total = parts.take<T>(E);
    keys = parts.take<OrderKey<T>>(E);
    ids = parts.take<std::int32_t>(E), scratch = parts.take<std::int32_t>(E);
    partials = {parts.take<std::int32_t>(blocks * E), parts.take<T>(blocks * E)};
  }
  T *row, *fraction, *total;
  OrderKey<T>* keys;
  std::int32_t *ids, *scratch;
  Partials<T> partials;
};

/// counts[e] = how many of the block's tokens have e among the K best of their unbiased scores; sums[e] = the ascending
/// sum of their normalised scores.
template <class T>
void block_partials(const T* scores, std::int64_t num_tokens, std::int64_t num_experts, std::int64_t num_chosen,
                    const Workspace<T>& w, std::int32_t* counts, T* sums) {
  std::fill_n(counts, num_experts, 0);
  std::fill_n(sums, num_experts, T{0});
  for (std::int64_t t = 0; t < num_tokens; ++t, scores += num_experts) {
    for (std::int64_t e = 0; e < num_experts; ++e) w.keys[e] = order_key(scores[e]);
    take_top_k(w.keys, num_experts, num_chosen, w.ids, w.scratch);
    for (std::int64_t k = 0; k < num_chosen; ++k) ++counts[w.ids[k]];
    const T sum = row_sum(scores, num_experts);
    for (std::int64_t e = 0; e < num_experts; ++e) sums[e] += scores[e] / sum;
  }
}

/// What the tokens of one sequence share.
template <class T>
struct Sequence {
  std::int64_t num_tokens, num_experts, num_chosen, num_blocks;
  T coefficient;
};

/// From the partials of all blocks: returns the loss times T, and writes the gradients of `num_rows` rows of the
/// sequence.
template <class T>
T finish(const Sequence<T>& s, const Partials<T>& partials, const T* scores, std::int64_t num_rows,
         const Workspace<T>& w, T* dscores) {
  const std::int64_t E = s.num_experts;
  const T unit = static_cast<T>(static_cast<double>(E) / static_cast<double>(s.num_chosen * s.num_tokens));
  for (std::int64_t e = 0; e < E; ++e) {
    std::int64_t count = 0;
    T sum[num_blocks];
    for (std::int64_t b = 0; b < s.num_blocks; ++b) {
      count += partials.counts[b * E + e];
      sum[b] = partials.sums[b * E + e];
    }
    for (std::int64_t apart = 1; apart < s.num_blocks; apart *= 2)
      for (std::int64_t b = 0; b < s.num_blocks; b += 2 * apart) sum[b] += sum[b + apart];
    w.fraction[e] = static_cast<T>(count) * unit;
    w.total[e] = sum[0];
  }
  for (std::int64_t t = 0; t < num_rows; ++t, scores += E, dscores += E) {
    const T sum = row_sum(scores, E);
    for (std::int64_t e = 0; e < E; ++e) w.row[e] = scores[e] / sum;
    const T mean = lane_dot<T>(w.fraction, w.row, E);
    const T factor = s.coefficient / sum;
    for (std::int64_t e = 0; e < E; ++e) dscores[e] = factor * (w.fraction[e] - mean);
  }
  return s.coefficient * lane_dot<T>(w.fraction, w.total, E);
}

}  // namespace

void balance_partials(const Stream& stream, std::int64_t num_chosen, std::int64_t tokens_per_block,
                      const Tensor& scores_ME, const Tensor& counts_BE, const Tensor& sums_BE) {
  FOURMI_DOOR(balance_partials, stream, num_chosen, tokens_per_block, scores_ME, counts_BE, sums_BE);
  const Span span(stream.timeline(), Work::router, "balance_partials");
  const std::int64_t num_experts = scores_ME.dim(1), blocks = counts_BE.dim(0);
  FOURMI_CHECK(tokens_per_block >= 1 && scores_ME.dim(0) == blocks * tokens_per_block && num_chosen >= 1 &&
                   num_chosen <= num_experts && counts_BE.num_elements() == blocks * num_experts &&
                   sums_BE.num_elements() == blocks * num_experts,
               "scores {}, blocks of {} tokens, {} chosen, counts {}, sums {}", to_string(scores_ME.shape),
               tokens_per_block, num_chosen, to_string(counts_BE.shape), to_string(sums_BE.shape));
  visit_accumulator(scores_ME.dtype, "balance_partials", [&]<class T>(std::type_identity<T>) {
    const T* scores = scores_ME.as<T>();
    auto* counts = counts_BE.as<std::int32_t>();
    T* sums = sums_BE.as<T>();
    stream.pool().parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
      const Workspace<T> w(num_experts, 0);
      for (std::int64_t b = begin; b < end; ++b)
        block_partials(scores + b * tokens_per_block * num_experts, tokens_per_block, num_experts, num_chosen, w,
                       counts + b * num_experts, sums + b * num_experts);
    });
  });
}

void balance_finish(const Stream& stream, double coefficient, std::int64_t tokens_per_sequence, std::int64_t num_chosen,
                    const Tensor& counts_BE, const Tensor& sums_BE, const Tensor& scores_ME, const Tensor& loss_S,
                    const Tensor& dscores_ME) {
  FOURMI_DOOR(balance_finish, stream, coefficient, tokens_per_sequence, num_chosen, counts_BE, sums_BE, scores_ME,
              loss_S, dscores_ME);
  const Span span(stream.timeline(), Work::router, "balance_finish");
  const std::int64_t num_experts = scores_ME.dim(1), num_sequences = loss_S.dim(0);
  const std::int64_t blocks = blocks_of(tokens_per_sequence), rows = scores_ME.dim(0);
  FOURMI_CHECK(num_sequences >= 1 && rows % num_sequences == 0 && rows <= num_sequences * tokens_per_sequence &&
                   num_chosen >= 1 && num_chosen <= num_experts &&
                   counts_BE.num_elements() == num_sequences * blocks * num_experts &&
                   sums_BE.num_elements() == counts_BE.num_elements() &&
                   dscores_ME.num_elements() == scores_ME.num_elements(),
               "counts {}, sums {}, {} sequences of {} tokens in {} blocks, {} chosen, scores {}, dscores {}",
               to_string(counts_BE.shape), to_string(sums_BE.shape), num_sequences, tokens_per_sequence, blocks,
               num_chosen, to_string(scores_ME.shape), to_string(dscores_ME.shape));
  visit_accumulator(scores_ME.dtype, "balance_finish", [&]<class T>(std::type_identity<T>) {
    const Sequence<T> s{tokens_per_sequence, num_experts, num_chosen, blocks, static_cast<T>(coefficient)};
    const Partials<T> partials{counts_BE.as<std::int32_t>(), sums_BE.as<T>()};
    const T* scores = scores_ME.as<T>();
    T *dscores = dscores_ME.as<T>(), *loss = loss_S.as<T>();
    const std::int64_t held = rows / num_sequences;
    stream.pool().parallel_for(num_sequences, 1, [&](std::int64_t begin, std::int64_t end) {
      const Workspace<T> w(num_experts, 0);
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t first = i * blocks * num_experts, row = i * held * num_experts;
        loss[i] = finish<T>(s, {partials.counts + first, partials.sums + first}, scores + row, held, w, dscores + row);
      }
    });
  });
}

void balance_loss(const Stream& stream, double coefficient, std::int64_t tokens_per_sequence, std::int64_t num_chosen,
                  const Tensor& scores_ME, const Tensor& loss_S, const Tensor& dscores_ME) {
  FOURMI_DOOR(balance_loss, stream, coefficient, tokens_per_sequence, num_chosen, scores_ME, loss_S, dscores_ME);
  const Span span(stream.timeline(), Work::router, "balance_loss");
  const std::int64_t num_experts = scores_ME.dim(1), num_sequences = loss_S.dim(0);
  FOURMI_CHECK(scores_ME.dim(0) == num_sequences * tokens_per_sequence && num_chosen >= 1 &&
                   num_chosen <= num_experts && dscores_ME.num_elements() == scores_ME.num_elements(),
               "scores {}, {} sequences of {} tokens, {} chosen, dscores {}", to_string(scores_ME.shape), num_sequences,
               tokens_per_sequence, num_chosen, to_string(dscores_ME.shape));
  visit_accumulator(scores_ME.dtype, "balance_loss", [&]<class T>(std::type_identity<T>) {
    const std::int64_t blocks = blocks_of(tokens_per_sequence), block = tokens_per_sequence / blocks;
    const Sequence<T> s{tokens_per_sequence, num_experts, num_chosen, blocks, static_cast<T>(coefficient)};
    const T* scores = scores_ME.as<T>();
    T *dscores = dscores_ME.as<T>(), *loss = loss_S.as<T>();
    stream.pool().parallel_for(num_sequences, 1, [&](std::int64_t begin, std::int64_t end) {
      const Workspace<T> w(num_experts, blocks);
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t first = i * tokens_per_sequence * num_experts;
        for (std::int64_t b = 0; b < blocks; ++b)
          block_partials(scores + first + b * block * num_experts, block, num_experts, num_chosen, w,
                         w.partials.counts + b * num_experts, w.partials.sums + b * num_experts);
        loss[i] = finish(s, w.partials, scores + first, tokens_per_sequence, w, dscores + first);
      }
    });
  });
}

}  // namespace fourmi
