#include "kernels/runtime/tensor.h"

namespace fourmi {

std::string to_string(const Shape& shape) {
  std::string s = "[";
  for (int i = 0; i < shape.rank; ++i) s += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return s + "]";
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  FOURMI_CHECK(shape.rank >= 1 && 0 <= begin && begin <= end && end <= shape[0], "rows {}..{} of {}", begin, end,
               to_string(shape));
  Tensor t = *this;
  const std::int64_t row_bytes = shape[0] == 0 ? 0 : bytes() / shape[0];
  if (data) t.data = static_cast<std::byte*>(data) + begin * row_bytes;
  t.shape.dims[0] = end - begin;
  return t;
}

Tensor Tensor::view(Shape other) const {
  FOURMI_CHECK(other.num_elements() == num_elements(), "{} viewed as {}", to_string(shape), to_string(other));
  Tensor t = *this;
  t.shape = other;
  return t;
}

}  // namespace fourmi
