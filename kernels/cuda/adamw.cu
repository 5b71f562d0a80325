// AdamW. Bound by memory, every byte moved once. An element of f32 moments and a bf16 weight moves 30 bytes (gradient
// 4, master 8, moments 16, weight 2), of bf16 moments 22: 7 (5.1) ms for 10^9 elements at 4.3 TB/s. Arithmetic, some
// fifty instructions an element with the division and the root, takes a third of the issue slots of that time. The
// sequence and so the bits are the CPU's (docs/numerics.md "AdamW").
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/ops/adamw_element.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256;

/// n elements a thread and round; what is left over one by one. W is void where the weight is the master itself.
template <int n, class A, class Moment, class W>
__global__ void __launch_bounds__(threads)
    update(const AdamWScalars<A> s, const A* __restrict__ grad, A* __restrict__ master, Moment* __restrict__ exp_avg,
           Moment* __restrict__ exp_avg_sq, W* __restrict__ weight, std::int64_t size) {
  const std::int64_t first = std::int64_t{blockIdx.x} * threads + threadIdx.x, step = std::int64_t{gridDim.x} * threads;
#pragma unroll 1
  for (std::int64_t i = first; i < size / n; i += step) {
    const Vector<A, n> g = load<n>(grad + i * n);
    Vector<A, n> w = load<n>(master + i * n);
    Vector<Moment, n> m = load<n>(exp_avg + i * n), v = load<n>(exp_avg_sq + i * n);
#pragma unroll
    for (int k = 0; k < n; ++k) adamw_element(s, g.value[k], w.value[k], m.value[k], v.value[k]);
    store<n>(exp_avg + i * n, m);
    store<n>(exp_avg_sq + i * n, v);
    store<n>(master + i * n, w);
    if constexpr (!std::is_void_v<W>) {
      Vector<W, n> out;
#pragma unroll
      for (int k = 0; k < n; ++k) out.value[k] = round_to<W>(w.value[k]);
      store<n>(weight + i * n, out);
    }
  }
  for (std::int64_t i = size / n * n + first; i < size; i += step) {
    A w = master[i];
    adamw_element(s, grad[i], w, exp_avg[i], exp_avg_sq[i]);
    master[i] = w;
    if constexpr (!std::is_void_v<W>) weight[i] = round_to<W>(w);
  }
}

template <class A, class Moment, class W>
void run(const CudaStream& stream, const AdamW& options, const A* grad, A* master, Moment* exp_avg, Moment* exp_avg_sq,
         W* weight, std::int64_t size) {
  constexpr int n = vector_length<A>;
  bool whole = is_vector_aligned<n>(grad, 0) && is_vector_aligned<n>(master, 0) && is_vector_aligned<n>(exp_avg, 0) &&
               is_vector_aligned<n>(exp_avg_sq, 0);
  if constexpr (!std::is_void_v<W>) whole = whole && is_vector_aligned<n>(weight, 0);
  // Many more blocks than are on the card at a time, so that none is late at the end.
  const unsigned blocks = num_blocks(size, whole ? threads * n : threads, 64 * stream.card().num_multiprocessors);
  launch(stream, whole ? update<n, A, Moment, W> : update<1, A, Moment, W>, blocks, threads, 0,
         AdamWScalars<A>(options), grad, master, exp_avg, exp_avg_sq, weight, size);
}

}  // namespace

void adamw_step(const Stream& stream, const AdamW& options, const Tensor& grad, const Tensor& master,
                const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& weight) {
  const Span span(stream.timeline(), Work::optimizer, "adamw_step");
  const std::int64_t size = master.num_elements();
  FOURMI_CHECK(options.step >= 1, "step {}", options.step);
  FOURMI_CHECK(exp_avg.dtype == exp_avg_sq.dtype, "moments of {} and {}", name_of(exp_avg.dtype),
               name_of(exp_avg_sq.dtype));
  FOURMI_CHECK(grad.num_elements() == size && exp_avg.num_elements() == size && exp_avg_sq.num_elements() == size &&
                   weight.num_elements() == size,
               "gradient {}, master {}, moments {} and {}, weight {}", to_string(grad.shape), to_string(master.shape),
               to_string(exp_avg.shape), to_string(exp_avg_sq.shape), to_string(weight.shape));
  visit_accumulator(master.dtype, "adamw_step", [&]<class A>(std::type_identity<A>) {
    const A* const g = pointer<A>(grad);
    const auto with_moments = [&]<class Moment>(std::type_identity<Moment>) {
      Moment *const first = pointer<Moment>(exp_avg), *const second = pointer<Moment>(exp_avg_sq);
      const auto with_weight = [&]<class W>(W* out) {
        if (size > 0) run(on(stream), options, g, pointer<A>(master), first, second, out, size);
      };
      if (weight.data == master.data && weight.dtype == master.dtype) return with_weight(static_cast<void*>(nullptr));
      visit_float(weight.dtype, "adamw_step", [&]<class W>(std::type_identity<W>) { with_weight(pointer<W>(weight)); });
    };
    if (exp_avg.dtype == DType::bf16) return with_moments(std::type_identity<bfloat16>{});
    with_moments(std::type_identity<A>{});
  });
}

}  // namespace fourmi::cuda
