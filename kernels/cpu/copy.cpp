#include "kernels/ops/copy.h"

#include <algorithm>
#include <cstring>

#include "kernels/ops/door.h"

namespace fourmi {

namespace {

/// Bytes of a row's elements, then of its scales.
void copy_scaled_columns(const Stream& stream, const Tensor& src, std::int64_t src_column, const Tensor& dst,
                         std::int64_t dst_column, std::int64_t count) {
  const bool mx = src.dtype == DType::mxe4m3_rows;
  const std::int64_t block = mx ? ScaledFormat::mx_block : ScaledFormat::block, scale = mx ? 1 : 4;
  const std::int64_t rows = src.dim(0), src_width = src.dim(1), dst_width = dst.dim(1);
  FOURMI_CHECK(src.shape.rank == 2 && dst.shape.rank == 2 && src.dtype != DType::e4m3_panels &&
                   src_column % block == 0 && dst_column % block == 0 &&
                   (count % block == 0 || (src_column + count == src_width && dst_column + count == dst_width)),
               "{} columns from {} of {} to {} of {} cut a block of {}", count, src_column, to_string(src.shape),
               dst_column, to_string(dst.shape), name_of(src.dtype));
  const std::int64_t src_row = ScaledFormat::row_bytes(src.dtype, src_width),
                     dst_row = ScaledFormat::row_bytes(dst.dtype, dst_width);
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{256} << 10) / count);
  const std::int64_t scales_end = dst_width + scale * ScaledFormat::num_blocks(dst_width, block);
  stream.pool().parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const auto* from = static_cast<const std::byte*>(src.data) + r * src_row;
      auto* to = static_cast<std::byte*>(dst.data) + r * dst_row;
      std::memcpy(to + dst_column, from + src_column, static_cast<std::size_t>(count));
      std::memcpy(to + dst_width + dst_column / block * scale, from + src_width + src_column / block * scale,
                  static_cast<std::size_t>(ScaledFormat::num_blocks(count, block) * scale));
      std::memset(to + scales_end, 0, static_cast<std::size_t>(dst_row - scales_end));
    }
  });
}

}  // namespace

void copy(const Stream& stream, const Tensor& src, const Tensor& dst) {
  FOURMI_DOOR(copy, stream, src, dst);
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
  FOURMI_DOOR(copy_columns, stream, src, src_column, dst, dst_column, count);
  const Span span(stream.timeline(), Work::other, "copy_columns");
  const std::int64_t rows = src.dim(0);
  if (rows == 0 || count == 0) return;
  const std::int64_t src_width = src.num_elements() / rows, dst_width = dst.num_elements() / rows;
  FOURMI_CHECK(src.dtype == dst.dtype && dst.dim(0) == rows && src_column >= 0 && src_column + count <= src_width &&
                   dst_column >= 0 && dst_column + count <= dst_width,
               "{} columns from {} of {} {} into {} {} from {}", count, src_column, name_of(src.dtype),
               to_string(src.shape), name_of(dst.dtype), to_string(dst.shape), dst_column);
  if (has_scales(src.dtype)) return copy_scaled_columns(stream, src, src_column, dst, dst_column, count);
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
