#include "kernels/ops/quantize.h"

#include <atomic>

#include "kernels/cpu/scaled_groups.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {
namespace {

using namespace float8;

std::int64_t num_rows(const Tensor& t) {
  FOURMI_CHECK(t.shape.rank >= 1, "rows of a scalar");
  const std::int64_t K = t.dim(t.shape.rank - 1);
  return K == 0 ? 0 : t.num_elements() / K;
}

/// Matrices [N, K] one after another, cut in panels of 128 rows.
struct Panels {
  Byte* data;
  std::int64_t N, K, num_matrices, in_matrix;

  explicit Panels(const Tensor& q) : data(static_cast<Byte*>(q.data)) {
    FOURMI_CHECK(q.shape.rank >= 2, "panels of shape {}", to_string(q.shape));
    K = q.dim(q.shape.rank - 1), N = q.dim(q.shape.rank - 2);
    num_matrices = N * K == 0 ? 0 : q.num_elements() / (N * K);
    in_matrix = ScaledFormat::num_blocks(N);
  }
  std::int64_t count() const { return num_matrices * in_matrix; }
  /// Of all matrices' rows, those of panel p.
  std::int64_t first_row(std::int64_t p) const { return p / in_matrix * N + p % in_matrix * ScaledFormat::block; }
  std::int64_t rows(std::int64_t p) const {
    return std::min(ScaledFormat::block, N - p % in_matrix * ScaledFormat::block);
  }
  Byte* elements(std::int64_t p) const {
    return data + p / in_matrix * ScaledFormat::panel_bytes(N, K) +
           ScaledFormat::panel_bytes(p % in_matrix * ScaledFormat::block, K);
  }
  /// The panel that begins with this row; or the one behind the last.
  std::int64_t at_row(std::int64_t row, const char* what) const {
    const std::int64_t in = row % N;
    FOURMI_CHECK(in % ScaledFormat::block == 0, "{}: row {} of matrices of {} rows is inside a block", what, row, N);
    return row / N * in_matrix + in / ScaledFormat::block;
  }
};

/// Panel p of q = x, in strips of columns that stay in the second-level cache. scales_of(strip, rows, n, scales,
/// inverses) fills those of the tiles of n columns; `strip` is x from their first row and column on.
template <class X, class ScalesOf>
void write_panel(const Primitives& primitives, const Panels& q, std::int64_t p, const X* x, QuantizeStatistics* stats,
                 const ScalesOf& scales_of) {
  constexpr std::int64_t tiles = 8, most = tiles * ScaledFormat::block;
  const std::int64_t K = q.K, rows = q.rows(p);
  x += q.first_row(p) * K;
  Byte* const elements = q.elements(p);
  Byte* to = elements + rows * K;
  for (std::int64_t column = 0; column < K; column += most) {
    const std::int64_t n = std::min(most, K - column);
    float scales[tiles], inverses[tiles];
    scales_of(x + column, rows, n, scales, inverses);
    for (std::int64_t r = 0; r < rows; ++r)
      encode_groups(primitives, x + r * K + column, n, ScaledFormat::block, scales, inverses, elements + r * K + column,
                    stats);
    for (std::int64_t i = 0; i < ScaledFormat::num_blocks(n); ++i, to += sizeof(float)) store_scale(to, scales[i]);
  }
  std::memset(to, 0, static_cast<std::size_t>(elements + ScaledFormat::panel_bytes(rows, K) - to));
}

void check_output(const Tensor& x, const Tensor& q, const char* what) {
  FOURMI_CHECK(has_scales(q.dtype) && q.shape == x.shape, "{}: x {} {}, q {} {}", what, name_of(x.dtype),
               to_string(x.shape), name_of(q.dtype), to_string(q.shape));
}

void check_runs(std::span<const std::int32_t> runs, const Tensor& amax_G, std::int64_t rows, const char* what) {
  const auto n = static_cast<std::int64_t>(runs.size()) - 1;
  FOURMI_CHECK(n >= 0 && runs.front() >= 0 && runs.back() <= rows && amax_G.num_elements() >= n,
               "{}: {} borders of runs of {} rows, amax {}", what, runs.size(), rows, to_string(amax_G.shape));
  for (std::size_t i = 1; i < runs.size(); ++i)
    FOURMI_CHECK(runs[i - 1] <= runs[i], "{}: runs fall from {} to {}", what, runs[i - 1], runs[i]);
}

void raise(std::atomic<std::uint32_t>& most, std::uint32_t bits) {
  std::uint32_t before = most.load(std::memory_order_relaxed);
  while (before < bits && !most.compare_exchange_weak(before, bits, std::memory_order_relaxed)) {
  }
}

}  // namespace

void quantize(const Stream& stream, const Tensor& x, const Tensor& q, const Scaling& scaling,
              QuantizeStatistics* stats) {
  FOURMI_DOOR(quantize, stream, x, q, scaling, stats);
  const Span span(stream.timeline(), Work::quantise, "quantize");
  check_output(x, q, "quantize");
  visit_input(x, "quantize", [&]<class X>(std::type_identity<X>) {
    const X* from = x.as<X>();
    if (q.dtype == DType::e4m3_panels) {
      const Panels panels(q);
      const Primitives& p = primitives(stream.isa());
      const auto floor = std::bit_cast<std::uint32_t>(scaling.floor);
      run_groups(stream, stats, panels.count(), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
          write_panel(p, panels, i, from, stats,
                      [&](const X* strip, std::int64_t rows, std::int64_t n, float* scales, float* inverses) {
                        std::uint32_t amax[8], most[8];
                        std::fill_n(most, 8, floor);
                        for (std::int64_t r = 0; r < rows; ++r) {
                          p.amax(strip + r * panels.K, n, ScaledFormat::block, amax);
                          for (std::int64_t t = 0; t < ScaledFormat::num_blocks(n); ++t)
                            most[t] = std::max(most[t], amax[t]);
                        }
                        for (std::int64_t t = 0; t < ScaledFormat::num_blocks(n); ++t) {
                          const GroupScale s = scale_of_bits(most[t], scaling.kind);
                          scales[t] = s.scale, inverses[t] = s.inverse;
                        }
                      });
      });
      return;
    }
    const ScaledRows rows(stream, q, scaling, stats);
    run_groups(stream, stats, num_rows(q), grain_of(rows.size()), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) rows.write(r, from + r * rows.size());
    });
  });
}

void largest_magnitudes(const Stream& stream, const Tensor& x, std::span<const std::int32_t> runs,
                        const Tensor& amax_G) {
  FOURMI_DOOR(largest_magnitudes, stream, x, runs, amax_G);
  const Span span(stream.timeline(), Work::quantise, "largest_magnitudes");
  check_runs(runs, amax_G, num_rows(x), "largest_magnitudes");
  const std::int64_t K = x.dim(x.shape.rank - 1);
  float* amax = amax_G.as<float>();
  visit_input(x, "largest_magnitudes", [&]<class X>(std::type_identity<X>) {
    const X* from = x.as<X>();
    const Primitives& p = primitives(stream.isa());
    for (std::size_t run = 0; run + 1 < runs.size(); ++run) {
      std::atomic<std::uint32_t> most = 0;
      stream.pool().parallel_for(runs[run + 1] - runs[run], grain_of(K), [&](std::int64_t begin, std::int64_t end) {
        std::uint32_t mine = 0;
        if (K > 0) p.amax(from + (runs[run] + begin) * K, (end - begin) * K, (end - begin) * K, &mine);
        raise(most, mine);
      });
      amax[run] = std::bit_cast<float>(most.load());
    }
  });
}

void quantize_by(const Stream& stream, const Tensor& x, const Tensor& q, const Scaling& scaling,
                 std::span<const std::int32_t> runs, const Tensor& amax_G, QuantizeStatistics* stats) {
  FOURMI_DOOR(quantize_by, stream, x, q, scaling, runs, amax_G, stats);
  const Span span(stream.timeline(), Work::quantise, "quantize_by");
  check_output(x, q, "quantize_by");
  check_runs(runs, amax_G, num_rows(x), "quantize_by");
  const float* amax = amax_G.as<float>();
  const ScaleKind kind = q.dtype == DType::mxe4m3_rows ? ScaleKind::power_of_two : scaling.kind;
  const auto floor = std::bit_cast<std::uint32_t>(scaling.floor);
  visit_input(x, "quantize_by", [&]<class X>(std::type_identity<X>) {
    const X* from = x.as<X>();
    for (std::size_t run = 0; run + 1 < runs.size(); ++run) {
      const std::int64_t first = runs[run], count = runs[run + 1] - first;
      if (count == 0) continue;
      const GroupScale scale =
          scale_of_bits(std::max(floor, std::bit_cast<std::uint32_t>(amax[run]) & 0x7fffffffu), kind);
      if (q.dtype == DType::e4m3_panels) {
        const Panels panels(q);
        const std::int64_t panel = panels.at_row(first, "quantize_by");
        const std::int64_t past = panels.at_row(first + count, "quantize_by");
        run_groups(stream, stats, past - panel, 1, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i)
            write_panel(primitives(stream.isa()), panels, panel + i, from, stats,
                        [&](const X*, std::int64_t, std::int64_t n, float* scales, float* inverses) {
                          std::fill_n(scales, ScaledFormat::num_blocks(n), scale.scale);
                          std::fill_n(inverses, ScaledFormat::num_blocks(n), scale.inverse);
                        });
        });
        continue;
      }
      const ScaledRows rows(stream, q, scaling, stats);
      run_groups(stream, stats, count, grain_of(rows.size()), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = first + begin; r < first + end; ++r) rows.write(r, from + r * rows.size(), scale);
      });
    }
  });
}

void dequantize(const Stream& stream, const Tensor& q, const Tensor& y) {
  FOURMI_DOOR(dequantize, stream, q, y);
  const Span span(stream.timeline(), Work::quantise, "dequantize");
  check_output(y, q, "dequantize");
  const Primitives& p = primitives(stream.isa());
  const std::int64_t K = q.dim(q.shape.rank - 1);
  visit_input(y, "dequantize", [&]<class Y>(std::type_identity<Y>) {
    const auto write = [&](const Byte* row, const Byte* scales, Y* to) {
      if constexpr (std::is_same_v<Y, float>) {
        decode_row(p, q.dtype, row, scales, K, to);
      } else {
        float* values = WorkingMemory::mine().get<float>(WorkingUse::row, K);
        decode_row(p, q.dtype, row, scales, K, values);
        for (std::int64_t i = 0; i < K; ++i) to[i] = bfloat16(values[i]);
      }
    };
    Y* const to = y.as<Y>();
    if (q.dtype == DType::e4m3_panels) {
      const Panels panels(q);
      stream.pool().parallel_for(panels.count(), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
          for (std::int64_t r = 0; r < panels.rows(i); ++r)
            write(panels.elements(i) + r * K, panels.elements(i) + panels.rows(i) * K,
                  to + (panels.first_row(i) + r) * K);
      });
      return;
    }
    const std::int64_t stride = ScaledFormat::row_bytes(q.dtype, K);
    stream.pool().parallel_for(num_rows(q), grain_of(K), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const Byte* row = static_cast<const Byte*>(q.data) + r * stride;
        write(row, row + K, to + r * K);
      }
    });
  });
}

}  // namespace fourmi
