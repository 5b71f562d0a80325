#include "kernels/ops/permute.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/cpu/tree.h"
#include "kernels/numerics/lanes.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/door.h"
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
  FOURMI_CHECK(rows_RD.dim(1) == tokens_MD.dim(1) && row_of_MK.dim(0) == tokens_MD.dim(0) &&
                   (tokens_MD.dtype == rows_RD.dtype || tokens_MD.dtype == accumulate_dtype(rows_RD.dtype)),
               "rows {} {}, row_of {}, tokens {} {}", name_of(rows_RD.dtype), to_string(rows_RD.shape),
               to_string(row_of_MK.shape), name_of(tokens_MD.dtype), to_string(tokens_MD.shape));
}

void check_addend(const Tensor& addend, const Tensor& rows_RD, const Tensor& y_MD) {
  FOURMI_CHECK(!addend || (addend.num_elements() == y_MD.num_elements() &&
                           (addend.dtype == rows_RD.dtype || addend.dtype == accumulate_dtype(rows_RD.dtype))),
               "{} {} added to {} {}", name_of(addend.dtype), to_string(addend.shape), name_of(y_MD.dtype),
               to_string(y_MD.shape));
}

void check_leaves(const ExpertLeaves& l, const Tensor& row_of_MK) {
  FOURMI_CHECK(is_power_of_two(l.leaves) && l.leaves <= max_leaves, "{} leaves of experts", l.leaves);
  FOURMI_CHECK(l.leaves == 1 || (l.num_experts >= l.leaves && l.num_experts % l.leaves == 0 &&
                                 l.experts_MK.num_elements() == row_of_MK.num_elements()),
               "{} leaves of {} experts, experts {}, row_of {}", l.leaves, l.num_experts, to_string(l.experts_MK.shape),
               to_string(row_of_MK.shape));
}

/// The choices of one token, and what they weigh.
template <class A>
struct Choices {
  const std::int32_t *row_of, *experts;  // experts: null where there is one leaf
  const A* weights;                      // null: 1
  std::int64_t count, experts_per_leaf;

  FOURMI_INLINE bool in_leaf(std::int64_t k, std::int64_t leaf) const {
    return row_of[k] >= 0 && (experts == nullptr || experts[k] / experts_per_leaf == leaf);
  }
};

/// sum = the choices of one leaf, ascending from zero, in columns [column, column + n). Had it any?
template <class T, class A>
bool sum_leaf(const Choices<A>& c, std::int64_t leaf, const T* rows, std::int64_t size, std::int64_t column,
              std::int64_t n, A* sum) {
  bool any = false;
  for (std::int64_t k = 0; k < c.count; ++k) {
    if (!c.in_leaf(k, leaf)) continue;
    if (!any) std::fill_n(sum, n, A{0});
    any = true;
    const T* row = rows + c.row_of[k] * size + column;
    if (c.weights != nullptr) {
      const A weight = c.weights[k];
      for (std::int64_t d = 0; d < n; ++d) sum[d] = fma(weight, widen<A>(row[d]), sum[d]);
    } else {
      for (std::int64_t d = 0; d < n; ++d) sum[d] += widen<A>(row[d]);
    }
  }
  return any;
}

/// y[t] = round(sum over k of rows[row_of[t, k]], each times weights[t, k] where given, + first + second).
template <class T, class Y>
void gather_sum(const Stream& stream, const Tensor& rows_RD, const Accumulator<T>* weights, const Tensor& row_of_MK,
                const ExpertLeaves& leaves, const Tensor& y_MD, const Tensor& first, const Tensor& second) {
  using A = Accumulator<T>;
  const std::int64_t num_tokens = y_MD.dim(0), size = y_MD.dim(1), num_choices = row_of_MK.dim(1);
  const T* rows = rows_RD.as<T>();
  const auto* row_of = row_of_MK.as<std::int32_t>();
  const bool cut = leaves.leaves > 1;
  const auto* experts = cut ? leaves.experts_MK.as<std::int32_t>() : nullptr;
  Y* y = y_MD.as<Y>();
  stream.pool().parallel_for(num_tokens, row_grain(size * num_choices), [&](std::int64_t begin, std::int64_t end) {
    Tree<A, chunk, tree_levels(max_leaves)> tree;
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t at = t * num_choices;
      const Choices<A> choices{row_of + at, cut ? experts + at : nullptr, weights ? weights + at : nullptr, num_choices,
                               cut ? leaves.num_experts / leaves.leaves : 1};
      for (std::int64_t column = 0; column < size; column += chunk) {
        const std::int64_t n = std::min(chunk, size - column), place = t * size + column;
        for (std::int64_t leaf = 0; leaf < leaves.leaves; ++leaf)
          tree.take(n, sum_leaf(choices, leaf, rows, size, column, n, tree.next()));
        A* sum = tree.root(n);
        if (first) add_part<T>(first, place, n, sum);
        if (second) add_part<T>(second, place, n, sum);
        for (std::int64_t d = 0; d < n; ++d) y[place + d] = narrow<Y>(sum[d]);
      }
    }
  });
}

/// Calls f with the types of the rows and of y, which is that or its accumulator.
template <class F>
void visit_rows(const Tensor& rows_RD, const Tensor& y_MD, std::string_view what, const F& f) {
  visit_float(rows_RD.dtype, what, [&]<class T>(std::type_identity<T> rows) {
    if (y_MD.dtype == rows_RD.dtype) return f(rows, rows);
    f(rows, std::type_identity<Accumulator<T>>{});
  });
}

}  // namespace

void permute_plan(const Stream& stream, const Tensor& experts_MK, std::span<std::int32_t> offsets,
                  const Tensor& row_token_R, const Tensor& row_of_MK) {
  FOURMI_DOOR(permute_plan, stream, experts_MK, offsets, row_token_R, row_of_MK);
  const Span span(stream.timeline(), Work::dispatch, "permute_plan");
  const std::int64_t num_tokens = experts_MK.dim(0), num_choices = experts_MK.dim(1), n = num_tokens * num_choices;
  const auto num_experts = static_cast<std::int64_t>(offsets.size()) - 1;
  FOURMI_CHECK(num_experts >= 1 && row_of_MK.num_elements() == n, "{} offsets, experts {}, row_of {}", offsets.size(),
               to_string(experts_MK.shape), to_string(row_of_MK.shape));
  const auto* experts = experts_MK.as<std::int32_t>();
  auto* row_token = row_token_R.as<std::int32_t>();
  auto* row_of = row_of_MK.as<std::int32_t>();
  // Counting sort. offsets[e + 1] counts expert e, then becomes its first row, and after the last pass its end.
  std::fill(offsets.begin(), offsets.end(), 0);
  for (std::int64_t i = 0; i < n; ++i) {
    FOURMI_CHECK(experts[i] >= -1 && experts[i] < num_experts, "expert {} of {}", experts[i], num_experts);
    if (experts[i] >= 0) ++offsets[static_cast<std::size_t>(experts[i]) + 1];
  }
  std::int32_t first = 0;
  for (auto& offset : offsets.subspan(1)) first += std::exchange(offset, first);
  FOURMI_CHECK(first <= row_token_R.num_elements(), "{} rows, row_token {}", first, to_string(row_token_R.shape));
  for (std::int64_t t = 0; t < num_tokens; ++t)
    for (std::int64_t i = t * num_choices; i < (t + 1) * num_choices; ++i) {
      row_of[i] = -1;
      if (experts[i] < 0) continue;
      row_of[i] = offsets[static_cast<std::size_t>(experts[i]) + 1]++;
      row_token[row_of[i]] = static_cast<std::int32_t>(t);
    }
}

void permute_forward(const Stream& stream, const Tensor& x_MD, const Tensor& row_token_R, const Tensor& rows_RD) {
  FOURMI_DOOR(permute_forward, stream, x_MD, row_token_R, rows_RD);
  const Span span(stream.timeline(), Work::dispatch, "permute_forward");
  const std::int64_t num_rows = rows_RD.dim(0), size = x_MD.dim(1);
  FOURMI_CHECK(rows_RD.dtype == x_MD.dtype && rows_RD.dim(1) == size && row_token_R.num_elements() >= num_rows,
               "x {} {}, row_token {}, rows {} {}", name_of(x_MD.dtype), to_string(x_MD.shape),
               to_string(row_token_R.shape), name_of(rows_RD.dtype), to_string(rows_RD.shape));
  const auto* row_token = row_token_R.as<std::int32_t>();
  const auto* x = static_cast<const std::byte*>(x_MD.data);
  auto* rows = static_cast<std::byte*>(rows_RD.data);
  const std::int64_t row_bytes = bytes_of(x_MD.dtype, {size});  // with its scales
  stream.pool().parallel_for(num_rows, row_grain(size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      std::memcpy(rows + r * row_bytes, x + row_token[r] * row_bytes, static_cast<std::size_t>(row_bytes));
  });
}

void permute_backward(const Stream& stream, const Tensor& drows_RD, const Tensor& row_of_MK, const Tensor& dx_MD,
                      const Tensor& first_MD, const Tensor& second_MD, const ExpertLeaves& leaves) {
  FOURMI_DOOR(permute_backward, stream, drows_RD, row_of_MK, dx_MD, first_MD, second_MD, leaves);
  const Span span(stream.timeline(), Work::dispatch, "permute_backward");
  check_choices(drows_RD, row_of_MK, dx_MD);
  check_addend(first_MD, drows_RD, dx_MD);
  check_addend(second_MD, drows_RD, dx_MD);
  check_leaves(leaves, row_of_MK);
  visit_rows(drows_RD, dx_MD, "permute_backward", [&]<class T, class Y>(std::type_identity<T>, std::type_identity<Y>) {
    gather_sum<T, Y>(stream, drows_RD, nullptr, row_of_MK, leaves, dx_MD, first_MD, second_MD);
  });
}

void combine_forward(const Stream& stream, const Tensor& rows_RD, const Tensor& weights_MK, const Tensor& row_of_MK,
                     const Tensor& y_MD, const Tensor& residual_MD, const ExpertLeaves& leaves) {
  FOURMI_DOOR(combine_forward, stream, rows_RD, weights_MK, row_of_MK, y_MD, residual_MD, leaves);
  const Span span(stream.timeline(), Work::combine, "combine_forward");
  check_choices(rows_RD, row_of_MK, y_MD);
  check_addend(residual_MD, rows_RD, y_MD);
  check_leaves(leaves, row_of_MK);
  FOURMI_CHECK(weights_MK.num_elements() == row_of_MK.num_elements(), "weights {}, row_of {}",
               to_string(weights_MK.shape), to_string(row_of_MK.shape));
  visit_rows(rows_RD, y_MD, "combine_forward", [&]<class T, class Y>(std::type_identity<T>, std::type_identity<Y>) {
    gather_sum<T, Y>(stream, rows_RD, weights_MK.as<Accumulator<T>>(), row_of_MK, leaves, y_MD, residual_MD, {});
  });
}

void combine_backward(const Stream& stream, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                      const Tensor& row_of_MK, const Tensor& drows_RD, const Tensor& dweights_MK) {
  FOURMI_DOOR(combine_backward, stream, dy_MD, rows_RD, weights_MK, row_of_MK, drows_RD, dweights_MK);
  const Span span(stream.timeline(), Work::combine, "combine_backward");
  check_choices(rows_RD, row_of_MK, dy_MD);
  check_choices(drows_RD, row_of_MK, dy_MD);
  FOURMI_CHECK(dy_MD.dtype == rows_RD.dtype && drows_RD.dtype == rows_RD.dtype, "dy {}, rows {}, drows {}",
               name_of(dy_MD.dtype), name_of(rows_RD.dtype), name_of(drows_RD.dtype));
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
          if (row_of[i] < 0) {
            dweights[i] = A{0};
            continue;
          }
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
