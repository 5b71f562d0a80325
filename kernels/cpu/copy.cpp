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

}  // namespace fourmi
