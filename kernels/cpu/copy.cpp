#include "kernels/ops/copy.h"

#include <algorithm>
#include <cstring>

namespace fourmi {

void copy(const Stream& stream, const Tensor& src, const Tensor& dst) {
  const Span span(stream.timeline(), Work::other, "copy");
  FOURMI_CHECK(src.dtype == dst.dtype && src.num_elements() == dst.num_elements(), "{} {} copied into {} {}",
               name_of(src.dtype), to_string(src.shape), name_of(dst.dtype), to_string(dst.shape));
  constexpr std::int64_t piece = 64 << 10;  // bytes
  const std::int64_t bytes = src.bytes();
  stream.pool().parallel_for((bytes + piece - 1) / piece, 4, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t from = begin * piece, to = std::min(bytes, end * piece);
    std::memcpy(static_cast<std::byte*>(dst.data) + from, static_cast<const std::byte*>(src.data) + from,
                static_cast<std::size_t>(to - from));
  });
}

void copy_columns(const Stream& stream, const Tensor& src, std::int64_t src_column, const Tensor& dst,
                  std::int64_t dst_column, std::int64_t count) {
  const Span span(stream.timeline(), Work::other, "copy_columns");
  const std::int64_t rows = src.dim(0);
  if (rows == 0 || count == 0) return;
  const std::int64_t src_width = src.num_elements() / rows, dst_width = dst.num_elements() / rows;
  FOURMI_CHECK(src.dtype == dst.dtype && dst.dim(0) == rows && src_column >= 0 && src_column + count <= src_width &&
                   dst_column >= 0 && dst_column + count <= dst_width,
               "{} columns from {} of {} {} into {} {} from {}", count, src_column, name_of(src.dtype),
               to_string(src.shape), name_of(dst.dtype), to_string(dst.shape), dst_column);
  const std::int64_t size = size_of(src.dtype);
  const auto* from = static_cast<const std::byte*>(src.data) + src_column * size;
  auto* to = static_cast<std::byte*>(dst.data) + dst_column * size;
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{256} << 10) / (count * size));
  stream.pool().parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      std::memcpy(to + r * dst_width * size, from + r * src_width * size, static_cast<std::size_t>(count * size));
  });
}

}  // namespace fourmi
