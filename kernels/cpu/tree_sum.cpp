#include "kernels/ops/tree_sum.h"

#include "kernels/cpu/tree.h"
#include "kernels/numerics/lanes.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

constexpr std::int64_t chunk = 256;  // elements whose partial sums stay in the first-level cache

/// part(i) is the data of part i, or null.
template <class T, class Y, class Part>
void sum_range(std::int64_t num_parts, const Part& part, const Y* residual, Y* y, std::int64_t begin,
               std::int64_t end) {
  Tree<T, chunk, tree_levels(max_tree_parts)> tree;
  for (std::int64_t at = begin; at < end; at += chunk) {
    const std::int64_t n = std::min(chunk, end - at);
    for (std::int64_t i = 0; i < num_parts; ++i) {
      const T* data = part(i);
      if (data != nullptr) std::copy_n(data + at, n, tree.next());
      tree.take(n, data != nullptr);
    }
    const T* sum = tree.root(n);
    if (residual == nullptr)
      for (std::int64_t j = 0; j < n; ++j) y[at + j] = narrow<Y>(sum[j]);
    else
      for (std::int64_t j = 0; j < n; ++j) y[at + j] = narrow<Y>(widen<T>(residual[at + j]) + sum[j]);
  }
}

/// `dtype` is that of the parts.
template <class PartOf>
void run(const Stream& stream, DType dtype, std::int64_t num_parts, const PartOf& part_of, const Tensor& y,
         const Tensor& residual) {
  FOURMI_CHECK(is_power_of_two(num_parts) && num_parts <= max_tree_parts, "a tree over {} parts", num_parts);
  FOURMI_CHECK(!residual || (residual.dtype == y.dtype && residual.num_elements() == y.num_elements()),
               "residual {} {}, y {} {}", name_of(residual.dtype), to_string(residual.shape), name_of(y.dtype),
               to_string(y.shape));
  FOURMI_CHECK(y.dtype == dtype || (y.dtype == DType::bf16 && dtype == DType::f32), "parts of {} into {}",
               name_of(dtype), name_of(y.dtype));
  visit_accumulator(dtype, "tree_sum", [&]<class T>(std::type_identity<T>) {
    const auto with = [&]<class Y>(std::type_identity<Y>) {
      const Y* more = residual ? residual.as<Y>() : nullptr;
      Y* to = y.as<Y>();
      const std::int64_t grain = std::max(chunk, 65536 / num_parts / chunk * chunk);
      stream.pool().parallel_for(y.num_elements(), grain, [&](std::int64_t begin, std::int64_t end) {
        sum_range<T>(
            num_parts, [&](std::int64_t i) { return static_cast<const T*>(part_of(i)); }, more, to, begin, end);
      });
    };
    if (y.dtype == dtype) return with(std::type_identity<T>{});
    if constexpr (std::is_same_v<T, float>) with(std::type_identity<bfloat16>{});
  });
}

}  // namespace

void tree_sum(const Stream& stream, std::span<const Tensor> parts, const Tensor& y, const Tensor& residual) {
  FOURMI_DOOR(tree_sum, stream, parts, y, residual);
  const Span span(stream.timeline(), Work::other, "tree_sum");
  DType dtype = accumulate_dtype(y.dtype);
  for (const Tensor& part : parts) {
    if (!part) continue;
    dtype = part.dtype;
    break;
  }
  for (const Tensor& part : parts)
    FOURMI_CHECK(!part || (part.dtype == dtype && part.num_elements() == y.num_elements()), "a part {} {}, y {} {}",
                 name_of(part.dtype), to_string(part.shape), name_of(y.dtype), to_string(y.shape));
  run(
      stream, dtype, std::ssize(parts), [&](std::int64_t i) { return parts[static_cast<std::size_t>(i)].data; }, y,
      residual);
}

void tree_sum(const Stream& stream, const Tensor& parts_P, const Tensor& y, const Tensor& residual) {
  FOURMI_DOOR(tree_sum_of_rows, stream, parts_P, y, residual);
  const Span span(stream.timeline(), Work::other, "tree_sum");
  const std::int64_t num_parts = parts_P.dim(0);
  FOURMI_CHECK(parts_P.num_elements() == num_parts * y.num_elements(), "parts {}, y {}", to_string(parts_P.shape),
               to_string(y.shape));
  const auto* first = static_cast<const std::byte*>(parts_P.data);
  const std::int64_t bytes = y.num_elements() * size_of(parts_P.dtype);
  run(
      stream, parts_P.dtype, num_parts, [&](std::int64_t i) { return static_cast<const void*>(first + i * bytes); }, y,
      residual);
}

}  // namespace fourmi
