#include "kernels/ops/window.h"

#include <algorithm>

#include "kernels/ops/door.h"

namespace fourmi {

void window_key_begin(const Stream& stream, std::int64_t window, const Tensor& key_begin_M, const Tensor& key_end_M,
                      const Tensor& begin_M) {
  FOURMI_DOOR(window_key_begin, stream, window, key_begin_M, key_end_M, begin_M);
  const std::int64_t rows = begin_M.num_elements();
  FOURMI_CHECK(window > 0 && key_begin_M.num_elements() == rows && key_end_M.num_elements() == rows,
               "a window of {}, {} and {} of {} rows", window, key_begin_M.num_elements(), key_end_M.num_elements(),
               rows);
  const auto *begin = key_begin_M.as<std::int32_t>(), *end = key_end_M.as<std::int32_t>();
  auto* out = begin_M.as<std::int32_t>();
  for (std::int64_t i = 0; i < rows; ++i)
    out[i] = static_cast<std::int32_t>(std::max<std::int64_t>(begin[i], end[i] - window));
}

}  // namespace fourmi
