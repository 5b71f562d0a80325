// The sum of partials by a perfect binary tree, to the CPU's bits. Bound by memory: P parts (and the residual) are read
// once and y is written; eight parts and bf16 at both ends move 36 bytes an element. A thread has all parts of its
// elements, up to eight loads in flight; of more parts it forms trees over eight and joins them as they come.
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/numerics/power_of_two.h"
#include "kernels/ops/tree_sum.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256, most_at_once = 8;

/// Where parts are; null: zeros. More than most_at_once lie in a table of the device's. `any` is one that is there,
/// which is read in place of the absent ones, so that no load waits for a branch; null: none is there.
struct Parts {
  const void* few[most_at_once];
  const void* const* many;
  const void* any;
};

/// x + 0 is an addition, too: it turns -0 into +0.
template <class T, int n>
__device__ Vector<T, n> plus(const Vector<T, n>& a, const Vector<T, n>& b) {
  Vector<T, n> sum;
#pragma unroll
  for (int k = 0; k < n; ++k) sum.value[k] = a.value[k] + b.value[k];
  return sum;
}

template <int n, class T>
__device__ Vector<T, n> load_part(const Parts& parts, const void* part, std::int64_t at) {
  Vector<T, n> v = load<n>(static_cast<const T*>(part != nullptr ? part : parts.any) + at);
#pragma unroll
  for (int k = 0; k < n; ++k) v.value[k] = part != nullptr ? v.value[k] : T{0};
  return v;
}

/// The tree over `num` parts in registers.
template <int num, class T, int n>
__device__ Vector<T, n> tree(Vector<T, n> (&part)[num]) {
#pragma unroll
  for (int width = 1; width < num; width *= 2)
#pragma unroll
    for (int i = 0; i < num; i += 2 * width) part[i] = plus(part[i], part[i + width]);
  return part[0];
}

/// The tree over `num` parts, or where `levels` is not 0 over num_groups of as many, at most 2^levels: group i joins
/// its left neighbour as often as i ends in ones, so that one sum a level is kept.
template <int num, int levels, class T, int n>
__device__ Vector<T, n> sum_at(const Parts& parts, int num_groups, std::int64_t at) {
  if (parts.any == nullptr) return Vector<T, n>{};
  Vector<T, n> part[num];
  if constexpr (levels == 0) {
#pragma unroll
    for (int p = 0; p < num; ++p) part[p] = load_part<n, T>(parts, parts.few[p], at);
    return tree<num>(part);
  } else {
    Vector<T, n> level[levels], sum;
    for (int group = 0; group < num_groups; ++group) {
#pragma unroll
      for (int p = 0; p < num; ++p) part[p] = load_part<n, T>(parts, parts.many[group * num + p], at);
      sum = tree<num>(part);
      bool joins = true;
#pragma unroll
      for (int d = 0; d < levels; ++d) {
        if (!joins) continue;
        joins = (group >> d & 1) != 0;
        if (joins)
          sum = plus(level[d], sum);
        else
          level[d] = sum;
      }
    }
    return sum;
  }
}

/// n elements a thread and round; then what is left over, by threads of the first block, one by one. `residual` may be
/// y, and so may a part.
template <int n, int num, int levels, class T, class Y>
__global__ void __launch_bounds__(threads)
    sum_parts(const Parts parts, int num_groups, const Y* residual, Y* y, std::int64_t size) {
  const std::int64_t first = std::int64_t{blockIdx.x} * threads + threadIdx.x, step = std::int64_t{gridDim.x} * threads;
#pragma unroll 1
  for (std::int64_t i = first * n; i + n <= size; i += step * n) {
    Vector<Y, n> more{};
    if (residual != nullptr) more = load<n>(residual + i);
    const Vector<T, n> sum = sum_at<num, levels, T, n>(parts, num_groups, i);
    Vector<Y, n> out;
#pragma unroll
    for (int k = 0; k < n; ++k)
      out.value[k] = narrow<Y>(residual != nullptr ? widen<T>(more.value[k]) + sum.value[k] : sum.value[k]);
    store<n>(y + i, out);
  }
  if constexpr (n > 1) {
    const std::int64_t i = size / n * n + first;
    if (i >= size) return;
    const T sum = sum_at<num, levels, T, 1>(parts, num_groups, i).value[0];
    y[i] = narrow<Y>(residual != nullptr ? widen<T>(residual[i]) + sum : sum);
  }
}

template <class T, class Y>
void launch_tree(const CudaStream& stream, std::span<const void* const> part, const Y* residual, Y* y,
                 std::int64_t size) {
  constexpr int n = vector_length<T>, levels = tree_levels(max_tree_parts / most_at_once);
  const auto num = static_cast<std::int64_t>(part.size());
  bool whole = is_vector_aligned<n>(y, 0) && (residual == nullptr || is_vector_aligned<n>(residual, 0));
  Parts parts{};
  for (const void* p : part) {
    whole = whole && is_vector_aligned<n>(static_cast<const T*>(p), 0);
    if (parts.any == nullptr) parts.any = p;
  }
  if (num <= most_at_once)
    std::copy(part.begin(), part.end(), parts.few);
  else
    parts.many = stream.upload(part);
  const unsigned blocks = num_blocks(size, whole ? threads * n : threads, 64 * stream.card().num_multiprocessors);
  const auto with = [&]<int at_once, int its_levels>(std::integral_constant<int, at_once>,
                                                     std::integral_constant<int, its_levels>) {
    launch(stream, whole ? sum_parts<n, at_once, its_levels, T, Y> : sum_parts<1, at_once, its_levels, T, Y>, blocks,
           threads, 0, parts, static_cast<int>(num / at_once), residual, y, size);
  };
  using None = std::integral_constant<int, 0>;
  if (num == 1) return with(std::integral_constant<int, 1>{}, None{});
  if (num == 2) return with(std::integral_constant<int, 2>{}, None{});
  if (num == 4) return with(std::integral_constant<int, 4>{}, None{});
  if (num == 8) return with(std::integral_constant<int, 8>{}, None{});
  with(std::integral_constant<int, most_at_once>{}, std::integral_constant<int, levels>{});
}

/// `dtype` is that of the parts.
void run(const CudaStream& stream, DType dtype, std::span<const void* const> parts, const Tensor& y,
         const Tensor& residual) {
  FOURMI_CHECK(!residual || (residual.dtype == y.dtype && residual.num_elements() == y.num_elements()),
               "residual {} {}, y {} {}", name_of(residual.dtype), to_string(residual.shape), name_of(y.dtype),
               to_string(y.shape));
  FOURMI_CHECK(y.dtype == dtype || (y.dtype == DType::bf16 && dtype == DType::f32), "parts of {} into {}",
               name_of(dtype), name_of(y.dtype));
  visit_accumulator(dtype, "tree_sum", [&]<class T>(std::type_identity<T>) {
    const auto with = [&]<class Y>(std::type_identity<Y>) {
      const Y* const more = pointer_or_null<Y>(residual);
      Y* const to = pointer<Y>(y);
      if (y.num_elements() > 0) launch_tree<T>(stream, parts, more, to, y.num_elements());
    };
    if (y.dtype == dtype) return with(std::type_identity<T>{});
    if constexpr (std::is_same_v<T, float>) with(std::type_identity<bfloat16>{});
  });
}

void check_number(std::int64_t num_parts) {
  FOURMI_CHECK(is_power_of_two(num_parts) && num_parts <= max_tree_parts, "a tree over {} parts", num_parts);
}

}  // namespace

void tree_sum(const Stream& stream, std::span<const Tensor> parts, const Tensor& y, const Tensor& residual) {
  const Span span(stream.timeline(), Work::other, "tree_sum");
  DType dtype = accumulate_dtype(y.dtype);
  for (const Tensor& part : parts) {
    if (!part) continue;
    dtype = part.dtype;
    break;
  }
  check_number(std::ssize(parts));
  std::array<const void*, max_tree_parts> pointers;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    FOURMI_CHECK(!parts[i] || (parts[i].dtype == dtype && parts[i].num_elements() == y.num_elements()),
                 "a part {} {}, y {} {}", name_of(parts[i].dtype), to_string(parts[i].shape), name_of(y.dtype),
                 to_string(y.shape));
    pointers[i] = parts[i] ? bytes(parts[i]) : nullptr;
  }
  run(on(stream), dtype, std::span(pointers).first(parts.size()), y, residual);
}

void tree_sum(const Stream& stream, const Tensor& parts_P, const Tensor& y, const Tensor& residual) {
  const Span span(stream.timeline(), Work::other, "tree_sum");
  const std::int64_t num_parts = parts_P.dim(0);
  FOURMI_CHECK(parts_P.num_elements() == num_parts * y.num_elements(), "parts {}, y {}", to_string(parts_P.shape),
               to_string(y.shape));
  check_number(num_parts);
  const std::byte* const first = bytes(parts_P);
  const std::int64_t stride = y.num_elements() * size_of(parts_P.dtype);
  std::array<const void*, max_tree_parts> pointers;
  for (std::int64_t i = 0; i < num_parts; ++i) pointers[static_cast<std::size_t>(i)] = first + i * stride;
  run(on(stream), parts_P.dtype, std::span(pointers).first(static_cast<std::size_t>(num_parts)), y, residual);
}

}  // namespace fourmi::cuda
