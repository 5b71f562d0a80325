#include "kernels/ops/max_parts.h"

#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {

void max_of_parts(const Stream& stream, const Tensor& parts, const Tensor& y) {
  FOURMI_DOOR(max_of_parts, stream, parts, y);
  const Span span(stream.timeline(), Work::head, "max_of_parts");
  const std::int64_t num = parts.dim(0), n = y.num_elements();
  FOURMI_CHECK(num > 0 && parts.num_elements() == num * n && parts.dtype == y.dtype, "the largest of {} into {}",
               to_string(parts.shape), to_string(y.shape));
  visit_accumulator(y.dtype, "max_of_parts", [&]<class X>(std::type_identity<X>) {
    const X* in = parts.as<X>();
    X* out = y.as<X>();
    for (std::int64_t i = 0; i < n; ++i) {
      X largest = in[i];
      for (std::int64_t p = 1; p < num; ++p) {
        const X next = in[p * n + i];
        if (next > largest || next != next) largest = next;  // a NaN stays: nothing compares above it
      }
      out[i] = largest;
    }
  });
}

}  // namespace fourmi
