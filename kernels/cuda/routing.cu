// Expert routing forward: a warp a token, whose scores stay in registers from the logits to the weights. Reads and
// writes E values a token, and writes K ids and weights. For 256 experts the selection (about 45 instructions of a warp
// for each choice) takes as long as the memory does.
#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/router_rows.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/routing.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr double epsilon = 1e-20;  // of the normalisation, as in DeepSeek's code

/// How one token chooses.
template <class T>
struct Choice {
  Scoring scoring;
  bool best_only;  ///< a group's rank is its best expert's
  bool normalise;
  int num_experts, num_chosen, num_groups, topk_group, group_size;
  int lanes_a_group;       ///< of those that rank it, a power of two
  unsigned group_inverse;  ///< group of element e = e * this / 2^20, exact below 512
  T factor;
};

/// Where element e of a row lies, such that lanes that go through neighbouring groups meet different banks.
__host__ __device__ constexpr int skewed(int e) {
  return e + (e >> 5) * 4;
}

/// A warp's place in shared memory. The larger types come first.
template <class T>
struct Scratch {
  OrderKey<T>* groups;
  T *values, *scores;
  std::int32_t* ids;

  static std::int64_t bytes(std::int64_t num_experts, std::int64_t num_groups, std::int64_t num_chosen) {
    const std::int64_t limited = num_groups > 1 ? num_groups + skewed(static_cast<int>(num_experts)) : 0;
    const auto size = static_cast<std::int64_t>(sizeof(T));
    return ceil_div((limited + num_chosen) * size + num_chosen * 4, 8) * 8;
  }
  __device__ Scratch(std::byte* memory, const Choice<T>& c) {
    groups = reinterpret_cast<OrderKey<T>*>(memory);
    values = reinterpret_cast<T*>(memory) + (c.num_groups > 1 ? c.num_groups : 0);
    scores = values + (c.num_groups > 1 ? skewed(c.num_experts) : 0);
    ids = reinterpret_cast<std::int32_t*>(scores + c.num_chosen);
  }
};

template <class T, int parts>
__device__ void score_row(Scoring scoring, int size, T (&v)[parts]) {
  if (scoring == Scoring::sigmoid) {
#pragma unroll
    for (int p = 0; p < parts; ++p) v[p] = sigmoid(v[p]);
    return;
  }
  // A NaN is passed over here, but not in the sum: then all scores are NaN, as the CPU's are.
  T most = -std::numeric_limits<T>::infinity();
#pragma unroll
  for (int p = 0; p < parts; ++p)
    if (element_of(p) < size) most = v[p] > most ? v[p] : most;
#pragma unroll
  for (int step = warp_size / 2; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(all_lanes, most, step);
    most = other > most ? other : most;
  }
#pragma unroll
  for (int p = 0; p < parts; ++p) v[p] = exp(v[p] - most);
  const T sum = sum_row(v, size);
#pragma unroll
  for (int p = 0; p < parts; ++p) v[p] /= sum;
}

/// The best two of what this lane saw of a group.
template <class T>
struct BestTwo {
  T best = -std::numeric_limits<T>::infinity(), second = best;
  __device__ void take(T value) {
    second = value > best ? best : (value > second ? value : second);
    best = value > best ? value : best;
  }
};

/// The key of each group, from the row in w.values, into w.groups.
template <class T>
__device__ void rank_groups(const Choice<T>& c, const Scratch<T>& w) {
  const int lanes = c.lanes_a_group, lane = lane_of_warp();
  for (int first = 0; first < c.num_groups; first += warp_size / lanes) {
    const int group = first + lane / lanes;
    BestTwo<T> two;
    if (group < c.num_groups)
      for (int i = lane % lanes; i < c.group_size; i += lanes) two.take(w.values[skewed(group * c.group_size + i)]);
    for (int step = lanes / 2; step > 0; step /= 2) {
      const T best = __shfl_xor_sync(all_lanes, two.best, step), second = __shfl_xor_sync(all_lanes, two.second, step);
      two.take(best);
      two.take(second);
    }
    const T rank = c.best_only || c.group_size == 1 ? two.best : two.best + two.second;
    if (group < c.num_groups && lane % lanes == 0) w.groups[group] = order_key(rank);
  }
  __syncwarp();
}

/// Excludes experts of groups that are not among the best. The ranked values make room for what was found.
template <class T, int parts>
__device__ void limit_groups(const Choice<T>& c, const Scratch<T>& w, OrderKey<T> (&key)[parts]) {
  rank_groups(c, w);
  for (int group = lane_of_warp(); group < c.num_groups; group += warp_size) {
    const OrderKey<T> mine = w.groups[group];
    int before = 0;  // groups that are better
    for (int g = 0; g < c.num_groups; ++g) before += w.groups[g] > mine || (w.groups[g] == mine && g < group) ? 1 : 0;
    w.values[group] = before < c.topk_group ? T{1} : T{0};
  }
  __syncwarp();
#pragma unroll
  for (int p = 0; p < parts; ++p) {
    const unsigned group = static_cast<unsigned>(element_of(p)) * c.group_inverse >> 20;
    if (element_of(p) < c.num_experts && w.values[group] == T{0}) key[p] = excluded_key<T>;
  }
  __syncwarp();
}

template <class T, int parts>
__global__ void __launch_bounds__(router_threads, blocks_of_row(parts* static_cast<int>(sizeof(T))))
    forward(const T* __restrict__ logits, const T* __restrict__ bias, T* __restrict__ scores,
            std::int32_t* __restrict__ experts, T* __restrict__ weights, std::int64_t num_tokens, Choice<T> c,
            int scratch_bytes) {
  const Scratch<T> w(dynamic_shared() + warp_of_block() * scratch_bytes, c);
  const std::int64_t t = token_of_warp();
  if (t >= num_tokens) return;
  T score[parts];
  load_row(logits + t * c.num_experts, c.num_experts, score);
  score_row(c.scoring, c.num_experts, score);
  T* const mine = scores + t * c.num_experts;
  store_row(mine, c.num_experts, score);

  if (bias != nullptr)
#pragma unroll
    for (int p = 0; p < parts; ++p)
      if (element_of(p) < c.num_experts) score[p] += bias[element_of(p)];
  OrderKey<T> key[parts];
  keys_of_row(score, c.num_experts, key);
  if (c.num_groups > 1) {
#pragma unroll
    for (int p = 0; p < parts; ++p)
      if (element_of(p) < c.num_experts) w.values[skewed(element_of(p))] = score[p];
    __syncwarp();
    limit_groups(c, w, key);
  }
  visit_taken<parts>(take_largest(key, c.num_chosen), [&](int place, int p) {
    w.scores[place] = mine[element_of(p)];  // from memory: registers are short
    w.ids[place] = element_of(p);
  });
  __syncwarp();
  T sum = 0;
  for (int k = 0; k < c.num_chosen; ++k) sum += w.scores[k];
  sum += static_cast<T>(epsilon);
  for (int k = lane_of_warp(); k < c.num_chosen; k += warp_size) {
    experts[t * c.num_chosen + k] = w.ids[k];
    weights[t * c.num_chosen + k] = (c.normalise ? w.scores[k] / sum : w.scores[k]) * c.factor;
  }
}

/// Each block counts in shared memory.
__global__ void __launch_bounds__(router_threads) count(const std::int32_t* __restrict__ experts, std::int64_t n,
                                                        unsigned long long* __restrict__ counts, int num_experts) {
  auto* const here = reinterpret_cast<std::int32_t*>(dynamic_shared());
  for (int e = static_cast<int>(threadIdx.x); e < num_experts; e += router_threads) here[e] = 0;
  __syncthreads();
  const std::int64_t step = std::int64_t{gridDim.x} * router_threads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * router_threads + threadIdx.x; i < n; i += step)
    if (experts[i] >= 0 && experts[i] < num_experts) atomicAdd(&here[experts[i]], 1);
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < num_experts; e += router_threads)
    if (here[e] != 0) atomicAdd(&counts[e], static_cast<unsigned long long>(here[e]));
}

int power_of_two_up(std::int64_t n) {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}

}  // namespace

void routing_forward(const Stream& stream, const Routing& routing, const Tensor& logits_ME, const Tensor& bias_E,
                     const Tensor& scores_ME, const Tensor& experts_MK, const Tensor& weights_MK) {
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
  if (num_tokens == 0) return;
  const auto groups = static_cast<int>(routing.num_groups), size = static_cast<int>(num_experts) / groups;
  visit_accumulator(logits_ME.dtype, "routing", [&]<class T>(std::type_identity<T>) {
    const Choice<T> c{.scoring = routing.scoring,
                      .best_only = routing.group_score == GroupScore::max,
                      .normalise = routing.normalise,
                      .num_experts = static_cast<int>(num_experts),
                      .num_chosen = static_cast<int>(num_chosen),
                      .num_groups = groups,
                      .topk_group = static_cast<int>(routing.topk_group),
                      .group_size = size,
                      .lanes_a_group = std::max(1, warp_size / power_of_two_up(groups)),
                      .group_inverse = static_cast<unsigned>(ceil_div(1 << 20, size)),
                      .factor = static_cast<T>(routing.scaling_factor)};
    const std::int64_t scratch = Scratch<T>::bytes(num_experts, groups, num_chosen);
    visit_parts(num_experts, [&]<int parts>(std::integral_constant<int, parts>) {
      launch(on(stream), forward<T, parts>, router_blocks(num_tokens), router_threads, scratch * router_warps,
             pointer<T>(logits_ME), pointer_or_null<T>(bias_E), pointer<T>(scores_ME),
             pointer<std::int32_t>(experts_MK), pointer<T>(weights_MK), num_tokens, c, scratch);
    });
  });
}

/// An id that is no expert's is not counted; the CPU refuses it.
void count_choices(const Stream& stream, const Tensor& experts_MK, const Tensor& counts_E) {
  const Span span(stream.timeline(), Work::router, "count_choices");
  const std::int64_t n = experts_MK.num_elements(), num_experts = counts_E.num_elements();
  if (n == 0 || num_experts == 0) return;
  launch(on(stream), count, num_blocks(n, 16 * router_threads, on(stream).card().num_multiprocessors), router_threads,
         num_experts * 4, pointer<std::int32_t>(experts_MK), n,
         reinterpret_cast<unsigned long long*>(pointer<std::int64_t>(counts_E)), static_cast<int>(num_experts));
}

}  // namespace fourmi::cuda
