// The sequence-wise balance loss, in the CPU's order and so with its bits. Bound by memory: scores are read three times
// (each token's sum and best experts; the sums of blocks; the gradients) and written once, the second and third time
// from L2 if they fit there. The chains over the T / 16 tokens of a block are the longest of it: T that 16 does not
// divide has a single one, right and slow.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/router_rows.h"
#include "kernels/ops/routing.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr double epsilon = 1e-20;  // keeps a row of vanished scores finite
constexpr int tree_blocks = 16;
constexpr int chain_threads = 64;  // experts of a block of tokens
constexpr int sequence_threads = 512;
static_assert(sequence_threads >= most_experts);

std::int64_t blocks_of(std::int64_t tokens_per_sequence) {
  return tokens_per_sequence % tree_blocks == 0 ? tree_blocks : 1;
}

template <class T>
struct Rows {
  const T* scores;
  std::int64_t num_rows;
  int num_experts, num_chosen;
};

/// counts[block][e] += 1 for the best experts of each token; sums[t], of its scores.
template <class T, int parts>
__global__ void __launch_bounds__(router_threads, blocks_of_row(parts* static_cast<int>(sizeof(T))))
    tokens(Rows<T> r, std::int64_t tokens_per_block, std::int32_t* __restrict__ counts, T* __restrict__ sums) {
  const std::int64_t t = token_of_warp();
  if (t >= r.num_rows) return;
  T score[parts];
  load_row(r.scores + t * r.num_experts, r.num_experts, score);
  const T sum = sum_row(score, r.num_experts) + static_cast<T>(epsilon);
  if (lane_of_warp() == 0) sums[t] = sum;
  OrderKey<T> key[parts];
  keys_of_row(score, r.num_experts, key);
  const unsigned taken = take_largest(key, r.num_chosen);
  std::int32_t* const here = counts + t / tokens_per_block * r.num_experts;
#pragma unroll
  for (int p = 0; p < parts; ++p)
    if (taken >> p & 1) atomicAdd(&here[element_of(p)], 1);
}

/// total[block][e] = the normalised scores of a block's tokens, a thread an expert, ascending.
template <class T>
__global__ void __launch_bounds__(chain_threads)
    chains(Rows<T> r, std::int64_t tokens_per_block, const T* __restrict__ sums, T* __restrict__ total) {
  constexpr int ahead = 16;
  const int blocks_a_row = (r.num_experts + chain_threads - 1) / chain_threads;
  const std::int64_t block = blockIdx.x / blocks_a_row;
  const int e = static_cast<int>(blockIdx.x % blocks_a_row) * chain_threads + static_cast<int>(threadIdx.x);
  if (e >= r.num_experts) return;
  const T* const scores = r.scores + block * tokens_per_block * r.num_experts + e;
  sums += block * tokens_per_block;
  T sum = 0;
  for (std::int64_t first = 0; first < tokens_per_block; first += ahead) {
    T score[ahead], of[ahead];  // all loads before the first division
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      const bool here = first + i < tokens_per_block;
      score[i] = here ? scores[(first + i) * r.num_experts] : T{0};
      of[i] = here ? sums[first + i] : T{1};
    }
#pragma unroll
    for (int i = 0; i < ahead; ++i) score[i] /= of[i];
#pragma unroll
    for (int i = 0; i < ahead; ++i)
      if (first + i < tokens_per_block) sum += score[i];
  }
  total[block * r.num_experts + e] = sum;
}

/// What the tokens of one sequence share.
template <class T>
struct Sequence {
  int num_experts, num_blocks;
  T coefficient, unit;
};

/// A block a sequence: fraction[e] from its counts, and the loss.
template <class T, int parts>
__global__ void __launch_bounds__(sequence_threads)
    sequences(Sequence<T> s, const std::int32_t* __restrict__ counts, const T* __restrict__ sums,
              T* __restrict__ fraction, T* __restrict__ loss) {
  __shared__ T fractions[most_experts], totals[most_experts];
  const int E = s.num_experts, e = static_cast<int>(threadIdx.x);
  const std::int64_t first = blockIdx.x * std::int64_t{s.num_blocks} * E;
  if (e < E) {
    std::int32_t count = 0;
    T sum[tree_blocks];
#pragma unroll
    for (int b = 0; b < tree_blocks; ++b) {
      sum[b] = 0;
      if (b >= s.num_blocks) continue;
      count += counts[first + b * E + e];
      sum[b] = sums[first + b * E + e];
    }
    if (s.num_blocks > 1)
#pragma unroll
      for (int apart = 1; apart < tree_blocks; apart *= 2)
#pragma unroll
        for (int b = 0; b < tree_blocks; b += 2 * apart) sum[b] += sum[b + apart];
    fractions[e] = static_cast<T>(count) * s.unit;
    totals[e] = sum[0];
    fraction[blockIdx.x * std::int64_t{E} + e] = fractions[e];
  }
  __syncthreads();
  if (warp_of_block() != 0) return;
  T f[parts], total[parts];
  load_row(fractions, E, f);
  load_row(totals, E, total);
  const T dot = dot_rows(f, total, E);
  if (lane_of_warp() == 0) loss[blockIdx.x] = s.coefficient * dot;
}

/// A warp a row.
template <class T, int parts>
__global__ void __launch_bounds__(router_threads, blocks_of_row(2 * parts * static_cast<int>(sizeof(T))))
    gradients(const T* scores, std::int64_t num_rows, std::int64_t rows_a_sequence, int num_experts, T coefficient,
              const T* __restrict__ fraction, T* dscores) {
  const std::int64_t t = token_of_warp();
  if (t >= num_rows) return;
  T p[parts], f[parts];
  load_row(scores + t * num_experts, num_experts, p);
  load_row(fraction + t / rows_a_sequence * num_experts, num_experts, f);
  const T sum = sum_row(p, num_experts) + static_cast<T>(epsilon);
#pragma unroll
  for (int i = 0; i < parts; ++i) p[i] /= sum;
  const T mean = dot_rows(f, p, num_experts), factor = coefficient / sum;
#pragma unroll
  for (int i = 0; i < parts; ++i) p[i] = factor * (f[i] - mean);
  store_row(dscores + t * num_experts, num_experts, p);
}

template <class T>
void add_partials(const CudaStream& stream, const Rows<T>& r, std::int64_t tokens_per_block, std::int32_t* counts,
                  T* sums, T* row_sums) {
  const std::int64_t blocks = r.num_rows / tokens_per_block;
  check(cudaMemsetAsync(counts, 0, static_cast<std::size_t>(blocks * r.num_experts) * sizeof(*counts), stream.handle()),
        "clearing counts");
  visit_parts(r.num_experts, [&]<int parts>(std::integral_constant<int, parts>) {
    launch(stream, tokens<T, parts>, router_blocks(r.num_rows), router_threads, 0, r, tokens_per_block, counts,
           row_sums);
  });
  launch(stream, chains<T>, static_cast<unsigned>(blocks * ceil_div(r.num_experts, chain_threads)), chain_threads, 0, r,
         tokens_per_block, row_sums, sums);
}

/// Of `num_sequences`; fraction: scratch for E values of each.
template <class T>
void finish(const CudaStream& stream, const Sequence<T>& s, std::int64_t num_sequences, std::int64_t rows_a_sequence,
            const std::int32_t* counts, const T* sums, const T* scores, T* fraction, T* loss, T* dscores) {
  const std::int64_t rows = num_sequences * rows_a_sequence;
  visit_parts(s.num_experts, [&]<int parts>(std::integral_constant<int, parts>) {
    launch(stream, sequences<T, parts>, static_cast<unsigned>(num_sequences), sequence_threads, 0, s, counts, sums,
           fraction, loss);
    if (rows == 0) return;
    launch(stream, gradients<T, parts>, router_blocks(rows), router_threads, 0, scores, rows, rows_a_sequence,
           s.num_experts, s.coefficient, fraction, dscores);
  });
}

template <class T>
Sequence<T> sequence_of(double coefficient, std::int64_t num_tokens, std::int64_t num_experts,
                        std::int64_t num_chosen) {
  return {static_cast<int>(num_experts), static_cast<int>(blocks_of(num_tokens)), static_cast<T>(coefficient),
          static_cast<T>(static_cast<double>(num_experts) / static_cast<double>(num_chosen * num_tokens))};
}

/// How many sequences' scratch fits, of so many bytes each.
std::int64_t sequences_at_once(std::int64_t bytes) {
  FOURMI_CHECK(bytes <= CudaStream::workspace_bytes, "{} bytes of scratch for a sequence", bytes);
  return CudaStream::workspace_bytes / bytes;
}

}  // namespace

void balance_partials(const Stream& stream, std::int64_t num_chosen, std::int64_t tokens_per_block,
                      const Tensor& scores_ME, const Tensor& counts_BE, const Tensor& sums_BE) {
  const Span span(stream.timeline(), Work::router, "balance_partials");
  const std::int64_t num_experts = scores_ME.dim(1), blocks = counts_BE.dim(0);
  FOURMI_CHECK(tokens_per_block >= 1 && scores_ME.dim(0) == blocks * tokens_per_block && num_chosen >= 1 &&
                   num_chosen <= num_experts && counts_BE.num_elements() == blocks * num_experts &&
                   sums_BE.num_elements() == blocks * num_experts,
               "scores {}, blocks of {} tokens, {} chosen, counts {}, sums {}", to_string(scores_ME.shape),
               tokens_per_block, num_chosen, to_string(counts_BE.shape), to_string(sums_BE.shape));
  if (blocks == 0) return;
  visit_accumulator(scores_ME.dtype, "balance_partials", [&]<class T>(std::type_identity<T>) {
    const Rows<T> r{pointer<T>(scores_ME), scores_ME.dim(0), static_cast<int>(num_experts),
                    static_cast<int>(num_chosen)};
    add_partials<T>(on(stream), r, tokens_per_block, pointer<std::int32_t>(counts_BE), pointer<T>(sums_BE),
                    on(stream).workspace<T>(r.num_rows));
  });
}

void balance_finish(const Stream& stream, double coefficient, std::int64_t tokens_per_sequence, std::int64_t num_chosen,
                    const Tensor& counts_BE, const Tensor& sums_BE, const Tensor& scores_ME, const Tensor& loss_S,
                    const Tensor& dscores_ME) {
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
    const auto s = sequence_of<T>(coefficient, tokens_per_sequence, num_experts, num_chosen);
    const std::int64_t held = rows / num_sequences;
    const std::int64_t most = sequences_at_once(num_experts * static_cast<std::int64_t>(sizeof(T)));
    for (std::int64_t i = 0; i < num_sequences; i += most) {
      const std::int64_t n = std::min(most, num_sequences - i), block = i * blocks * num_experts,
                         row = i * held * num_experts;
      finish(on(stream), s, n, held, pointer<std::int32_t>(counts_BE) + block, pointer<T>(sums_BE) + block,
             pointer<T>(scores_ME) + row, on(stream).workspace<T>(n * num_experts), pointer<T>(loss_S) + i,
             pointer<T>(dscores_ME) + row);
    }
  });
}

void balance_loss(const Stream& stream, double coefficient, std::int64_t tokens_per_sequence, std::int64_t num_chosen,
                  const Tensor& scores_ME, const Tensor& loss_S, const Tensor& dscores_ME) {
  const Span span(stream.timeline(), Work::router, "balance_loss");
  const std::int64_t num_experts = scores_ME.dim(1), num_sequences = loss_S.dim(0);
  FOURMI_CHECK(scores_ME.dim(0) == num_sequences * tokens_per_sequence && num_chosen >= 1 &&
                   num_chosen <= num_experts && dscores_ME.num_elements() == scores_ME.num_elements(),
               "scores {}, {} sequences of {} tokens, {} chosen, dscores {}", to_string(scores_ME.shape), num_sequences,
               tokens_per_sequence, num_chosen, to_string(dscores_ME.shape));
  if (num_sequences == 0 || tokens_per_sequence == 0) return;
  visit_accumulator(scores_ME.dtype, "balance_loss", [&]<class T>(std::type_identity<T>) {
    const auto s = sequence_of<T>(coefficient, tokens_per_sequence, num_experts, num_chosen);
    // Scratch of a sequence: its tokens' sums, sums and counts of its blocks, its fractions.
    const std::int64_t partials = s.num_blocks * num_experts, values = tokens_per_sequence + partials + num_experts;
    const std::int64_t most =
        sequences_at_once(values * static_cast<std::int64_t>(sizeof(T)) + partials * std::int64_t{4});
    for (std::int64_t i = 0; i < num_sequences; i += most) {
      const std::int64_t n = std::min(most, num_sequences - i), row = i * tokens_per_sequence * num_experts;
      T* const row_sums = on(stream).workspace<T>(n * values);
      T *const sums = row_sums + n * tokens_per_sequence, *const fraction = sums + n * partials;
      auto* const counts = reinterpret_cast<std::int32_t*>(fraction + n * num_experts);
      const Rows<T> r{pointer<T>(scores_ME) + row, n * tokens_per_sequence, static_cast<int>(num_experts),
                      static_cast<int>(num_chosen)};
      add_partials<T>(on(stream), r, tokens_per_sequence / s.num_blocks, counts, sums, row_sums);
      finish(on(stream), s, n, tokens_per_sequence, counts, static_cast<const T*>(sums), r.scores, fraction,
             pointer<T>(loss_S) + i, pointer<T>(dscores_ME) + row);
    }
  });
}

}  // namespace fourmi::cuda
