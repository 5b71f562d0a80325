#include "framework/interop/fp8_blocks.h"

#include <algorithm>
#include <cmath>

#include "kernels/numerics/float8.h"

namespace fourmi::interop {

void check_scales(const BlockScales& scales, const std::string& place, const std::string& tensor) {
  for (const float s : scales.values)
    if (!(s > 0) || !std::isfinite(s))
      throw Error(ExitStatus::input, place,
                  fmt::format("tensor `{}` has the scale {}, expected positive, finite numbers", tensor, s),
                  "The file is damaged: fetch it again");
}

void dequantise(std::span<const std::byte> elements, std::int64_t first, const BlockScales& scales,
                std::span<float> out, const std::string& place, const std::string& tensor) {
  FOURMI_CHECK(elements.size() == out.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t index = first + static_cast<std::int64_t>(i);
    const float scale = scales.at(index / scales.columns, index % scales.columns);
    const auto bits = static_cast<std::uint8_t>(elements[i]);
    out[i] = static_cast<float>(float8_e4m3::from_bits(bits)) * scale;
    if (float8_e4m3(out[i] / scale).bits != bits || std::isnan(out[i]) || std::isinf(out[i]))
      throw Error(ExitStatus::input, place,
                  fmt::format("tensor `{}`: element {} is {} times the scale {}, expected a finite product that "
                              "gives it back",
                              tensor, index, static_cast<float>(float8_e4m3::from_bits(bits)), scale),
                  "Such a weight is damaged or out of range");
  }
}

void quantise(std::span<const float> rows, std::int64_t first_row, const BlockScales& scales,
              std::span<std::byte> out) {
  FOURMI_CHECK(rows.size() == out.size() && first_row % 128 == 0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    const float scale = scales.at(first_row + index / scales.columns, index % scales.columns);
    out[i] = static_cast<std::byte>(float8_e4m3(rows[i] / scale).bits);
  }
}

void append_scales(std::span<const float> rows, BlockScales& scales) {
  const std::int64_t columns = scales.columns, num_rows = std::ssize(rows) / columns;
  for (std::int64_t r = 0; r < num_rows; r += 128)
    for (std::int64_t c = 0; c < columns; c += 128) {
      float most = 0;
      for (std::int64_t i = r; i < std::min(num_rows, r + 128); ++i)
        for (std::int64_t k = c; k < std::min(columns, c + 128); ++k)
          most = std::max(most, std::abs(rows[static_cast<std::size_t>(i * columns + k)]));
      scales.values.push_back(most > 0 ? most / float8_e4m3::largest : 1.0f);
    }
}

}  // namespace fourmi::interop
