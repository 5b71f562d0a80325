// Expert routing backward: a warp a token. Bound by memory: reads E scores (and E gradients of theirs, where given) and
// writes E gradients a token; what the K choices add goes by way of shared memory.
#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/router_rows.h"
#include "kernels/ops/routing.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr double epsilon = 1e-20;  // of the normalisation, as in forward

template <class T>
struct Weighting {
  bool softmax, normalise;
  int num_experts, num_chosen;
  T factor;
};

/// The gradient of the scores into `row`, which has that of the balance loss or zeros: through the weights of the K
/// choices. `share` and `gradient` have K places; scores and dweights are the token's.
template <class T>
__device__ void add_choices(const Weighting<T>& w, const T* scores, const T* dweights, const std::int32_t* experts,
                            T* row, T* share, T* gradient) {
  const int lane = lane_of_warp();
  for (int k = lane; k < w.num_chosen; k += warp_size) {
    share[k] = scores[experts[k]];
    gradient[k] = dweights[k] * w.factor;
  }
  __syncwarp();
  T sum = 0;
  for (int k = 0; k < w.num_chosen; ++k) sum += share[k];
  sum += static_cast<T>(epsilon);
  __syncwarp();
  for (int k = lane; k < w.num_chosen; k += warp_size) share[k] /= sum;
  __syncwarp();
  T dot = 0;  // of the normalised weights and their gradients
  for (int k = 0; k < w.num_chosen; ++k) dot = fma(gradient[k], share[k], dot);
  for (int k = lane; k < w.num_chosen; k += warp_size)
    row[experts[k]] += w.normalise ? (gradient[k] - dot) / sum : gradient[k];
  __syncwarp();
}

/// dlogits may be dense's memory.
template <class T, int parts>
__global__ void __launch_bounds__(router_threads, blocks_of_row(parts* static_cast<int>(sizeof(T))))
    backward(const T* __restrict__ dweights, const T* __restrict__ scores, const std::int32_t* __restrict__ experts,
             const T* dense, T* dlogits, std::int64_t num_tokens, Weighting<T> w) {
  const std::int64_t t = token_of_warp();
  if (t >= num_tokens) return;
  const int size = w.num_experts, num_chosen = w.num_chosen;
  T* const row = reinterpret_cast<T*>(dynamic_shared()) + warp_of_block() * (size + 2 * num_chosen);
  T s[parts], d[parts];
  load_row(scores + t * size, size, s);
  if (dense != nullptr) {
    load_row(dense + t * size, size, d);
  } else {
#pragma unroll
    for (int p = 0; p < parts; ++p) d[p] = 0;
  }
  store_row(row, size, d);
  __syncwarp();
  add_choices(w, scores + t * size, dweights + t * num_chosen, experts + t * num_chosen, row, row + size,
              row + size + num_chosen);
  load_row(row, size, d);
  if (w.softmax) {
    const T mean = dot_rows(d, s, size);
#pragma unroll
    for (int p = 0; p < parts; ++p) d[p] = s[p] * (d[p] - mean);
  } else {
#pragma unroll
    for (int p = 0; p < parts; ++p) d[p] *= s[p] * (T{1} - s[p]);
  }
  store_row(dlogits + t * size, size, d);
}

}  // namespace

void routing_backward(const Stream& stream, const Routing& routing, const Tensor& dweights_MK, const Tensor& scores_ME,
                      const Tensor& experts_MK, const Tensor& dscores_ME, const Tensor& dlogits_ME) {
  const Span span(stream.timeline(), Work::router, "routing_backward");
  const std::int64_t num_tokens = scores_ME.dim(0), num_experts = scores_ME.dim(1), num_chosen = experts_MK.dim(1);
  FOURMI_CHECK(dlogits_ME.num_elements() == scores_ME.num_elements() && experts_MK.dim(0) == num_tokens &&
                   dweights_MK.num_elements() == experts_MK.num_elements() &&
                   (!dscores_ME || dscores_ME.num_elements() == scores_ME.num_elements()),
               "dweights {}, scores {}, experts {}, dscores {}, dlogits {}", to_string(dweights_MK.shape),
               to_string(scores_ME.shape), to_string(experts_MK.shape), to_string(dscores_ME.shape),
               to_string(dlogits_ME.shape));
  if (num_tokens == 0) return;
  visit_accumulator(scores_ME.dtype, "routing", [&]<class T>(std::type_identity<T>) {
    const Weighting<T> w{routing.scoring == Scoring::softmax, routing.normalise, static_cast<int>(num_experts),
                         static_cast<int>(num_chosen), static_cast<T>(routing.scaling_factor)};
    const std::int64_t shared = router_warps * (num_experts + 2 * num_chosen) * static_cast<std::int64_t>(sizeof(T));
    visit_parts(num_experts, [&]<int parts>(std::integral_constant<int, parts>) {
      launch(on(stream), backward<T, parts>, router_blocks(num_tokens), router_threads, shared, pointer<T>(dweights_MK),
             pointer<T>(scores_ME), pointer<std::int32_t>(experts_MK), pointer_or_null<T>(dscores_ME),
             pointer<T>(dlogits_ME), num_tokens, w);
    });
  });
}

}  // namespace fourmi::cuda
