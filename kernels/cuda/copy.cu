// Copies by the card's own engines; columns of rows with scales by a kernel, because elements and scales lie apart.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/ops/copy.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256;

/// Where columns of one row lie: bytes from the row's begin.
struct Part {
  std::int64_t stride, elements, scales;
};

/// A block a row: the elements' bytes, the scales' bytes, and zeros from `scales_end` to the row's end.
__global__ void __launch_bounds__(threads)
    scaled_columns(const std::uint8_t* __restrict__ src, Part from, std::uint8_t* __restrict__ dst, Part to,
                   std::int64_t num_elements, std::int64_t num_scale_bytes, std::int64_t scales_end) {
  src += blockIdx.x * from.stride;
  dst += blockIdx.x * to.stride;
  for (std::int64_t i = threadIdx.x; i < num_elements; i += threads) dst[to.elements + i] = src[from.elements + i];
  for (std::int64_t i = threadIdx.x; i < num_scale_bytes; i += threads) dst[to.scales + i] = src[from.scales + i];
  for (std::int64_t i = scales_end + threadIdx.x; i < to.stride; i += threads) dst[i] = 0;
}

void copy_scaled_columns(const CudaStream& stream, const Tensor& src, std::int64_t src_column, const Tensor& dst,
                         std::int64_t dst_column, std::int64_t count) {
  const bool mx = src.dtype == DType::mxe4m3_rows;
  const std::int64_t block = mx ? ScaledFormat::mx_block : ScaledFormat::block, scale = mx ? 1 : 4;
  const std::int64_t rows = src.dim(0), src_width = src.dim(1), dst_width = dst.dim(1);
  FOURMI_CHECK(src.shape.rank == 2 && dst.shape.rank == 2 && src.dtype != DType::e4m3_panels &&
                   src_column % block == 0 && dst_column % block == 0 &&
                   (count % block == 0 || (src_column + count == src_width && dst_column + count == dst_width)),
               "{} columns from {} of {} to {} of {} cut a block of {}", count, src_column, to_string(src.shape),
               dst_column, to_string(dst.shape), block);
  const Part from{ScaledFormat::row_bytes(src.dtype, src_width), src_column, src_width + src_column / block * scale};
  const Part to{ScaledFormat::row_bytes(dst.dtype, dst_width), dst_column, dst_width + dst_column / block * scale};
  launch(stream, scaled_columns, static_cast<unsigned>(rows), threads, 0,
         reinterpret_cast<const std::uint8_t*>(bytes(src)), from, reinterpret_cast<std::uint8_t*>(bytes(dst)), to,
         count, ScaledFormat::num_blocks(count, block) * scale,
         dst_width + scale * ScaledFormat::num_blocks(dst_width, block));
}

}  // namespace

void copy(const Stream& stream, const Tensor& src, const Tensor& dst) {
  const Span span(stream.timeline(), Work::other, "copy");
  FOURMI_CHECK(src.dtype == dst.dtype && src.num_elements() == dst.num_elements(), "{} {} copied into {} {}",
               name_of(src.dtype), to_string(src.shape), name_of(dst.dtype), to_string(dst.shape));
  if (src.num_elements() == 0) return;
  check(cudaMemcpyAsync(dst.data, src.data, static_cast<std::size_t>(src.bytes()), cudaMemcpyDefault,
                        on(stream).handle()),
        "a copy");
}

void copy_columns(const Stream& stream, const Tensor& src_MA, std::int64_t src_column, const Tensor& dst_MB,
                  std::int64_t dst_column, std::int64_t count) {
  const Span span(stream.timeline(), Work::other, "copy_columns");
  const std::int64_t rows = src_MA.dim(0);
  if (rows == 0 || count == 0) return;
  const std::int64_t src_width = src_MA.num_elements() / rows, dst_width = dst_MB.num_elements() / rows;
  FOURMI_CHECK(src_MA.dtype == dst_MB.dtype && dst_MB.dim(0) == rows && src_column >= 0 &&
                   src_column + count <= src_width && dst_column >= 0 && dst_column + count <= dst_width,
               "{} columns from {} of {} {} into {} {} from {}", count, src_column, name_of(src_MA.dtype),
               to_string(src_MA.shape), name_of(dst_MB.dtype), to_string(dst_MB.shape), dst_column);
  if (has_scales(src_MA.dtype)) return copy_scaled_columns(on(stream), src_MA, src_column, dst_MB, dst_column, count);
  const std::int64_t size = size_of(src_MA.dtype);
  check(cudaMemcpy2DAsync(bytes(dst_MB) + dst_column * size, static_cast<std::size_t>(dst_width * size),
                          bytes(src_MA) + src_column * size, static_cast<std::size_t>(src_width * size),
                          static_cast<std::size_t>(count * size), static_cast<std::size_t>(rows), cudaMemcpyDefault,
                          on(stream).handle()),
        "a copy of columns");
}

}  // namespace fourmi::cuda
