#include "kernels/runtime/tensor.h"

namespace fourmi {

std::string to_string(const Shape& shape) {
  std::string s = "[";
  for (int i = 0; i < shape.rank; ++i) s += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return s + "]";
}

std::int64_t bytes_of(DType dtype, const Shape& shape) {
  const std::int64_t n = shape.num_elements();
  if (!has_scales(dtype)) return n * size_of(dtype);
  const bool panels = dtype == DType::e4m3_panels;
  FOURMI_CHECK(shape.rank >= (panels ? 2 : 1), "{} of shape {}", name_of(dtype), to_string(shape));
  if (n == 0) return 0;
  const std::int64_t K = shape[shape.rank - 1];
  if (!panels) return n / K * ScaledFormat::row_bytes(dtype, K);
  const std::int64_t N = shape[shape.rank - 2];
  return n / (N * K) * ScaledFormat::panel_bytes(N, K);
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  FOURMI_CHECK(shape.rank >= 1 && 0 <= begin && begin <= end && end <= shape[0], "rows {}..{} of {}", begin, end,
               to_string(shape));
  Tensor t = *this;
  t.shape.dims[0] = begin;
  if (dtype == DType::e4m3_panels && shape.rank == 2)
    FOURMI_CHECK(begin % ScaledFormat::block == 0 && (end % ScaledFormat::block == 0 || end == shape[0]),
                 "rows {}..{} of {} cut a block", begin, end, to_string(shape));
  if (data) t.data = static_cast<std::byte*>(data) + t.bytes();
  t.shape.dims[0] = end - begin;
  return t;
}

Tensor Tensor::view(Shape other) const {
  const int kept = !has_scales(dtype) ? 0 : dtype == DType::e4m3_panels ? 2 : 1;
  bool fits = other.num_elements() == num_elements() && other.rank >= kept;
  for (int i = 1; fits && i <= kept; ++i) fits = other[other.rank - i] == shape[shape.rank - i];
  FOURMI_CHECK(fits, "{} of {} viewed as {}", name_of(dtype), to_string(shape), to_string(other));
  Tensor t = *this;
  t.shape = other;
  return t;
}

}  // namespace fourmi
