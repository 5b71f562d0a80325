// From a run-time dtype to a compile-time type, once, at the door of an operation.
#pragma once

#include <type_traits>

#include "kernels/runtime/dtype.h"
#include "kernels/runtime/error.h"

namespace fourmi {

/// Calls f(std::type_identity<T>{}) with T double, float or bfloat16. Another dtype is a bug; `what` names the
/// operation.
template <class F>
void visit_float(DType dtype, std::string_view what, F&& f) {
  switch (dtype) {
    case DType::f64:
      return f(std::type_identity<double>{});
    case DType::f32:
      return f(std::type_identity<float>{});
    case DType::bf16:
      return f(std::type_identity<bfloat16>{});
    default:
      FOURMI_CHECK(false, "{} of {}", what, name_of(dtype));
  }
}

/// The same for accumulator dtypes: double or float.
template <class F>
void visit_accumulator(DType dtype, std::string_view what, F&& f) {
  switch (dtype) {
    case DType::f64:
      return f(std::type_identity<double>{});
    case DType::f32:
      return f(std::type_identity<float>{});
    default:
      FOURMI_CHECK(false, "{} of {}", what, name_of(dtype));
  }
}

}  // namespace fourmi
