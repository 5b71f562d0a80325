// All operations as one table: what a device does instead of the CPU. An operation's definition on the CPU begins with
// a door (operation(stream, ...)): on a stream of a device it hands the call, arguments as they are, to the device's
// slot. A device fills its table from the list below, so that none is forgotten.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops/adamw.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/bias.h"
#include "kernels/ops/copy.h"
#include "kernels/ops/cross_entropy.h"
#include "kernels/ops/dispatch_rows.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gqa_assemble.h"
#include "kernels/ops/held_rows.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/max_parts.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/quantize.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/rotary.h"
#include "kernels/ops/routing.h"
#include "kernels/ops/sum_in_order.h"
#include "kernels/ops/swiglu.h"
#include "kernels/ops/transpose_panels.h"
#include "kernels/ops/tree_sum.h"
#include "kernels/ops/window.h"

/// ONE(name): an operation whose name is its own. FORM(slot, name, signature...): one form of an overloaded name.
#define FOURMI_OPERATIONS(ONE, FORM)                                                                                   \
  ONE(adamw_step)                                                                                                      \
  ONE(attention_forward)                                                                                               \
  ONE(attention_merge)                                                                                                 \
  ONE(attention_backward)                                                                                              \
  ONE(bias_add)                                                                                                        \
  ONE(bias_backward)                                                                                                   \
  ONE(copy)                                                                                                            \
  ONE(copy_columns)                                                                                                    \
  ONE(spread_rows)                                                                                                     \
  ONE(sum_copies)                                                                                                      \
  ONE(pack_records)                                                                                                    \
  ONE(unpack_records)                                                                                                  \
  ONE(softmax_max)                                                                                                     \
  ONE(mask_padding)                                                                                                    \
  ONE(softmax_sum)                                                                                                     \
  ONE(cross_entropy_finish)                                                                                            \
  ONE(embedding_forward)                                                                                               \
  ONE(embedding_backward)                                                                                              \
  ONE(gqa_assemble_forward)                                                                                            \
  ONE(gqa_assemble_backward_input)                                                                                     \
  ONE(gqa_assemble_backward_weight)                                                                                    \
  ONE(count_held_below)                                                                                                \
  ONE(linear_forward)                                                                                                  \
  FORM(                                                                                                                \
      linear_backward_input, linear_backward_input,                                                                    \
      void(const Stream&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, std::int64_t, const Float8Sum&)) \
  FORM(linear_backward_input_columns, linear_backward_input,                                                           \
       void(const Stream&, const Tensor&, const ColumnScaled&, const Tensor&, const Tensor&, std::int64_t,             \
            const Float8Sum&))                                                                                         \
  FORM(linear_backward_weight, linear_backward_weight,                                                                 \
       void(const Stream&, const Tensor&, const Tensor&, const Tensor&, const Cuts&, const Float8Sum&))                \
  FORM(linear_backward_weight_columns, linear_backward_weight,                                                         \
       void(const Stream&, const ColumnScaled&, const ColumnScaled&, const Tensor&, const Cuts&, const Float8Sum&))    \
  ONE(grouped_linear_forward)                                                                                          \
  FORM(grouped_linear_backward_input, grouped_linear_backward_input,                                                   \
       void(const Stream&, const Tensor&, const Tensor&, std::span<const std::int32_t>, const Tensor&, std::int64_t,   \
            const Float8Sum&))                                                                                         \
  FORM(grouped_linear_backward_input_columns, grouped_linear_backward_input,                                           \
       void(const Stream&, const Tensor&, const ColumnScaled&, std::span<const std::int32_t>, const Tensor&,           \
            std::int64_t, const Float8Sum&))                                                                           \
  FORM(grouped_linear_backward_weight, grouped_linear_backward_weight,                                                 \
       void(const Stream&, const Tensor&, const Tensor&, std::span<const std::int32_t>, const Tensor&, const Cuts&,    \
            const Float8Sum&))                                                                                         \
  FORM(grouped_linear_backward_weight_columns, grouped_linear_backward_weight,                                         \
       void(const Stream&, const ColumnScaled&, const ColumnScaled&, std::span<const std::int32_t>, const Tensor&,     \
            const Cuts&, const Float8Sum&))                                                                            \
  ONE(max_of_parts)                                                                                                    \
  ONE(permute_plan)                                                                                                    \
  ONE(permute_forward)                                                                                                 \
  ONE(permute_backward)                                                                                                \
  ONE(combine_forward)                                                                                                 \
  FORM(combine_backward, combine_backward,                                                                             \
       void(const Stream&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&))  \
  FORM(combine_backward_scaled, combine_backward,                                                                      \
       void(const Stream&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Scaling&,  \
            const Tensor&, QuantizeStatistics*))                                                                       \
  ONE(quantize)                                                                                                        \
  ONE(largest_magnitudes)                                                                                              \
  ONE(quantize_by)                                                                                                     \
  ONE(quantize_blocks)                                                                                                 \
  ONE(dequantize)                                                                                                      \
  ONE(regroup_columns)                                                                                                 \
  ONE(max_abs)                                                                                                         \
  ONE(sum_squares)                                                                                                     \
  ONE(sum_fixed)                                                                                                       \
  ONE(convert)                                                                                                         \
  ONE(fill_zero)                                                                                                       \
  ONE(add_in_place)                                                                                                    \
  FORM(rms_norm_forward, rms_norm_forward,                                                                             \
       void(const Stream&, const RmsNorm&, const Tensor&, const Tensor&, const Tensor&, const Tensor&))                \
  FORM(rms_norm_forward_scaled, rms_norm_forward,                                                                      \
       void(const Stream&, const RmsNorm&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Scaling&, \
            const Tensor&, QuantizeStatistics*))                                                                       \
  ONE(rms_norm_backward_input)                                                                                         \
  ONE(rms_norm_backward_weight)                                                                                        \
  ONE(rotary_apply)                                                                                                    \
  ONE(mla_assemble_forward)                                                                                            \
  ONE(mla_assemble_backward)                                                                                           \
  ONE(mla_rotary_key_backward)                                                                                         \
  ONE(routing_forward)                                                                                                 \
  ONE(routing_backward)                                                                                                \
  ONE(balance_loss)                                                                                                    \
  ONE(balance_partials)                                                                                                \
  ONE(balance_finish)                                                                                                  \
  ONE(count_choices)                                                                                                   \
  FORM(swiglu_forward, swiglu_forward, void(const Stream&, const Tensor&, const Tensor&, std::int64_t))                \
  FORM(swiglu_backward, swiglu_backward,                                                                               \
       void(const Stream&, const Tensor&, const Tensor&, const Tensor&, std::int64_t))                                 \
  FORM(swiglu_forward_scaled, swiglu_forward,                                                                          \
       void(const Stream&, const Tensor&, const Tensor&, const Scaling&, std::int64_t, QuantizeStatistics*))           \
  FORM(swiglu_backward_scaled, swiglu_backward,                                                                        \
       void(const Stream&, const Tensor&, const Tensor&, const Tensor&, const Scaling&, std::int64_t,                  \
            QuantizeStatistics*))                                                                                      \
  ONE(transpose_panels)                                                                                                \
  FORM(tree_sum, tree_sum, void(const Stream&, std::span<const Tensor>, const Tensor&, const Tensor&))                 \
  FORM(tree_sum_of_rows, tree_sum, void(const Stream&, const Tensor&, const Tensor&, const Tensor&))                   \
  ONE(sum_in_order)                                                                                                    \
  ONE(window_key_begin)

namespace fourmi {

namespace detail {
[[noreturn]] void no_such_operation(const char* name);
}

template <class Signature>
struct Operation;
/// One slot. Calling an empty one is an Error(environment) that names the operation.
template <class R, class... Arguments>
struct Operation<R(Arguments...)> {
  const char* name;
  R (*function)(Arguments...) = nullptr;
  R operator()(Arguments... arguments) const {
    if (!function) detail::no_such_operation(name);
    return function(arguments...);
  }
};

struct Operations {
#define FOURMI_ONE(name) Operation<decltype(fourmi::name)> name{#name};
#define FOURMI_FORM(slot, name, ...) Operation<__VA_ARGS__> slot{#slot};
  FOURMI_OPERATIONS(FOURMI_ONE, FOURMI_FORM)
#undef FOURMI_ONE
#undef FOURMI_FORM
};

}  // namespace fourmi
