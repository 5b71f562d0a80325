#include "kernels/ops/permute.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/numerics/lanes.h"
#include "kernels/numerics/math.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

constexpr std::int64_t chunk = 512;  // columns whose sums stay in the first-level cache

/// Rows of `size` elements in one task: enough work to pay for waking a thread.
std::int64_t row_grain(std::int64_t size) {
  return std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, size));
}

/// Elements [begin, begin + n) of a tensor of T or of its accumulator dtype are added to sum.
template <class T, class A>
void add_part(const Tensor& x, std::int64_t begin, std::int64_t n, A* sum) {
  if (x.dtype == dtype_of<T>) {
    const T* part = x.as<T>() + begin;
    for (std::int64_t d = 0; d < n; ++d) sum[d] += widen<A>(part[d]);
  } else {
    const A* part = x.as<A>() + begin;
    for (std::int64_t d = 0; d < n; ++d) sum[d] += part[d];
  }
}

void check_choices(const Tensor& rows_RD, const Tensor& row_of_MK, const Tensor& tokens_MD) {
  FOURMI_CHECK(
      rows_RD.dim(1) == tokens_MD.dim(1) && row_of_MK.dim(0) == tokens_MD.dim(0) && rows_RD.dtype == tokens_MD.dtype,
      "rows {} {}, row_of {}, tokens {} {}", name_of(rows_RD.dtype), to_string(rows_RD.shape),
      to_string(row_of_MK.shape), name_of(tokens_MD.dtype), to_string(tokens_MD.shape));
}

void check_addend(const Tensor& addend, const Tensor& y_MD) {
  FOURMI_CHECK(!addend || (addend.num_elements() == y_MD.num_elements() &&
                           (addend.dtype == y_MD.dtype || addend.dtype == accumulate_dtype(y_MD.dtype))),
               "{} {} added to {} {}", name_of(addend.dtype), to_string(addend.shape), name_of(y_MD.dtype),
               to_string(y_MD.shape));
}

/// y[t] = round(sum over k of rows[row_of[t, k]], each times weights[t, k] where given, + first + second).
template <class T>
void gather_sum(const Stream& stream, const Tensor& rows_RD, const Accumulator<T>* weights, const Tensor& row_of_MK,
                const Tensor& y_MD, const Tensor& first, const Tensor& second) {
  using A = Accumulator<T>;
  const std::int64_t num_tokens = y_MD.dim(0), size = y_MD.dim(1), num_choices = row_of_MK.dim(1);
  const T* rows = rows_RD.as<T>();
  const auto* row_of = row_of_MK.as<std::int32_t>();
  T* y = y_MD.as<T>();
  stream.pool().parallel_for(num_tokens, row_grain(size * num_choices), [&](std::int64_t begin, std::int64_t end) {
    A sum[chunk];
    for (std::int64_t t = begin; t < end; ++t)
      for (std::int64_t column = 0; column < size; column += chunk) {
        const std::int64_t n = std::min(chunk, size - column), place = t * size + column;
        std::fill_n(sum, n, A{0});
        for (std::int64_t k = 0; k < num_choices; ++k) {
          const T* row = rows + row_of[t * num_choices + k] * size + column;
          if (weights) {
            const A weight = weights[t * num_choices + k];
            for (std::int64_t d = 0; d < n; ++d) sum[d] = fma(weight, widen<A>(row[d]), sum[d]);
          } else {
            for (std::int64_t d = 0; d < n; ++d) sum[d] += widen<A>(row[d]);
          }
        }
        if (first) add_part<T>(first, place, n, sum);
        if (second) add_part<T>(second, place, n, sum);
        for (std::int64_t d = 0; d < n; ++d) y[place + d] = narrow<T>(sum[d]);
      }
  });
}

}  // namespace

void permute_plan(const Stream& stream, const Tensor& experts_MK, std::span<std::int32_t> offsets,
                  const Tensor& row_token_R, const Tensor& row_of_MK) {
  const Span span(stream.timeline(), Work::dispatch, "permute_plan");
  const std::int64_t num_tokens = experts_MK.dim(0), num_choices = experts_MK.dim(1), n = num_tokens * num_choices;
  const auto num_experts = static_cast<std::int64_t>(offsets.size()) - 1;
  FOURMI_CHECK(num_experts >= 1 && row_token_R.num_elements() >= n && row_of_MK.num_elements() == n,
               "{} offsets, experts {}, row_token {}, row_of {}", offsets.size(), to_string(experts_MK.shape),
               to_string(row_token_R.shape), to_string(row_of_MK.shape));
  const auto* experts = experts_MK.as<std::int32_t>();
  auto* row_token = row_token_R.as<std::int32_t>();
  auto* row_of = row_of_MK.as<std::int32_t>();
  // Counting sort. offsets[e + 1] counts expert e, then becomes its first row, and after the last pass its end.
  std::fill(offsets.begin(), offsets.end(), 0);
  for (std::int64_t i = 0; i < n; ++i) {
    FOURMI_CHECK(experts[i] >= 0 && experts[i] < num_experts, "expert {} of {}", experts[i], num_experts);
    ++offsets[static_cast<std::size_t>(experts[i]) + 1];
  }
  std::int32_t first = 0;
  for (auto& offset : offsets.subspan(1)) first += std::exchange(offset, first);
  for (std::int64_t t = 0; t < num_tokens; ++t)
    for (std::int64_t k = 0; k < num_choices; ++k) {
      const std::int32_t row = offsets[static_cast<std::size_t>(experts[t * num_choices + k]) + 1]++;
      row_token[row] = static_cast<std::int32_t>(t);
      row_of[t * num_choices + k] = row;
    }
}

void permute_forward(const Stream& stream, const Tensor& x_MD, const Tensor& row_token_R, const Tensor& rows_RD) {
  const Span span(stream.timeline(), Work::dispatch, "permute_forward");
  const std::int64_t num_rows = rows_RD.dim(0), size = x_MD.dim(1);
  FOURMI_CHECK(rows_RD.dtype == x_MD.dtype && rows_RD.dim(1) == size && row_token_R.num_elements() >= num_rows,
               "x {} {}, row_token {}, rows {} {}", name_of(x_MD.dtype), to_string(x_MD.shape),
               to_string(row_token_R.shape), name_of(rows_RD.dtype), to_string(rows_RD.shape));
  const auto* row_token = row_token_R.as<std::int32_t>();
  const auto* x = static_cast<const std::byte*>(x_MD.data);
  auto* rows = static_cast<std::byte*>(rows_RD.data);
  const std::int64_t row_bytes = size * size_of(x_MD.dtype);
  stream.pool().parallel_for(num_rows, row_grain(size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      std::memcpy(rows + r * row_bytes, x + row_token[r] * row_bytes, static_cast<std::size_t>(row_bytes));
  });
}

void permute_backward(const Stream& stream, const Tensor& drows_RD, const Tensor& row_of_MK, const Tensor& dx_MD,
                      const Tensor& first_MD, const Tensor& second_MD) {
  const Span span(stream.timeline(), Work::dispatch, "permute_backward");
  check_choices(drows_RD, row_of_MK, dx_MD);
  check_addend(first_MD, dx_MD);
  check_addend(second_MD, dx_MD);
  visit_float(dx_MD.dtype, "permute_backward", [&]<class T>(std::type_identity<T>) {
    gather_sum<T>(stream, drows_RD, nullptr, row_of_MK, dx_MD, first_MD, second_MD);
  });
}

void combine_forward(const Stream& stream, const Tensor& rows_RD, const Tensor& weights_MK, const Tensor& row_of_MK,
                     const Tensor& y_MD, const Tensor& residual_MD) {
  const Span span(stream.timeline(), Work::combine, "combine_forward");
  check_choices(rows_RD, row_of_MK, y_MD);
  check_addend(residual_MD, y_MD);
  FOURMI_CHECK(weights_MK.num_elements() == row_of_MK.num_elements(), "weights {}, row_of {}",
               to_string(weights_MK.shape), to_string(row_of_MK.shape));
  visit_float(y_MD.dtype, "combine_forward", [&]<class T>(std::type_identity<T>) {
    gather_sum<T>(stream, rows_RD, weights_MK.as<Accumulator<T>>(), row_of_MK, y_MD, residual_MD, {});
  });
}

void combine_backward(const Stream& stream, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                      const Tensor& row_of_MK, const Tensor& drows_RD, const Tensor& dweights_MK) {
  const Span span(stream.timeline(), Work::combine, "combine_backward");
  check_choices(rows_RD, row_of_MK, dy_MD);
  check_choices(drows_RD, row_of_MK, dy_MD);
  const std::int64_t num_tokens = dy_MD.dim(0), size = dy_MD.dim(1), num_choices = row_of_MK.dim(1);
  FOURMI_CHECK(
      weights_MK.num_elements() == row_of_MK.num_elements() && dweights_MK.num_elements() == row_of_MK.num_elements(),
      "weights {}, dweights {}, row_of {}", to_string(weights_MK.shape), to_string(dweights_MK.shape),
      to_string(row_of_MK.shape));
  visit_float(dy_MD.dtype, "combine_backward", [&]<class T>(std::type_identity<T>) {
    using A = Accumulator<T>;
    const T *dy = dy_MD.as<T>(), *rows = rows_RD.as<T>();
    const A* weights = weights_MK.as<A>();
    const auto* row_of = row_of_MK.as<std::int32_t>();
    T* drows = drows_RD.as<T>();
    A* dweights = dweights_MK.as<A>();
    stream.pool().parallel_for(num_tokens, row_grain(size * num_choices), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t)
        for (std::int64_t i = t * num_choices; i < (t + 1) * num_choices; ++i) {
          const T* source = dy + t * size;
          T* target = drows + row_of[i] * size;
          // Before the rows are overwritten: drows may be the memory of rows.
          dweights[i] = lane_dot<A>(source, rows + row_of[i] * size, size);
          for (std::int64_t d = 0; d < size; ++d) target[d] = narrow<T>(weights[i] * widen<A>(source[d]));
        }
    });
  });
}

}  // namespace fourmi
