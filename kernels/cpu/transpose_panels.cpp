#include "kernels/ops/transpose_panels.h"

#include <algorithm>
#include <cstring>

#include "kernels/ops/door.h"

namespace fourmi {
namespace {

using Byte = std::uint8_t;
constexpr std::int64_t block = ScaledFormat::block;

/// Panel `panel` of a matrix [rows, columns]: its elements, and its scales behind them.
template <class B>
struct Panel {
  B* elements;
  B* scales;
  Panel(B* matrix, std::int64_t panel, std::int64_t rows, std::int64_t columns)
      : elements(matrix + ScaledFormat::panel_bytes(panel * block, columns)),
        scales(elements + std::min(block, rows - panel * block) * columns) {}
};

/// Rows [128 panel, ...) of wt, which are columns of w.
void make_panel(const Byte* w, Byte* wt, std::int64_t N, std::int64_t K, std::int64_t panel) {
  const Panel<Byte> to(wt, panel, K, N);
  const std::int64_t first = panel * block, num_rows = std::min(block, K - first);
  std::memset(to.scales, 0, static_cast<std::size_t>(ScaledFormat::panel_scale_bytes(N)));
  for (std::int64_t p = 0; p < ScaledFormat::num_blocks(N); ++p) {
    const Panel<const Byte> from(w, p, N, K);
    std::memcpy(to.scales + 4 * p, from.scales + 4 * panel, 4);
    const std::int64_t begin = p * block, num_columns = std::min(block, N - begin);
    for (std::int64_t k = 0; k < num_rows; ++k)
      for (std::int64_t n = 0; n < num_columns; ++n) to.elements[k * N + begin + n] = from.elements[n * K + first + k];
  }
}

}  // namespace

void transpose_panels(const Stream& stream, const Tensor& w, const Tensor& wt) {
  FOURMI_DOOR(transpose_panels, stream, w, wt);
  const Span span(stream.timeline(), Work::quantise, "transpose_panels");
  const PanelShape s = panels_to_transpose(w, wt);
  const std::int64_t panels = ScaledFormat::num_blocks(s.K), from = ScaledFormat::panel_bytes(s.N, s.K),
                     to = ScaledFormat::panel_bytes(s.K, s.N);
  stream.pool().parallel_for(s.E * panels, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      make_panel(static_cast<const Byte*>(w.data) + i / panels * from, static_cast<Byte*>(wt.data) + i / panels * to,
                 s.N, s.K, i % panels);
  });
}

}  // namespace fourmi
