#include "kernels/ops/bias.h"

#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/run_rows.h"
#include "kernels/numerics/lanes.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

template <class X>
struct Add {
  using T = Accumulator<X>;
  const T* bias;
  X* x;
  std::int64_t size;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t r = begin; r < end; ++r) {
      X* row = x + r * size;
      for (std::int64_t i = 0; i < size; ++i) row[i] = narrow<X>(widen<T>(row[i]) + bias[i]);
    }
  }
};

constexpr std::int64_t chunk = 256;  // columns whose partial is held at once

/// Rows of this body are chunks of columns: a thread never takes a part of a column's sum.
template <class X, class W>
struct Backward {
  using T = Accumulator<X>;
  const X* dy;
  W* db;
  std::int64_t num_rows, size;
  Cuts cuts;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t c = begin; c < end; ++c) {
      const std::int64_t first = c * chunk, n = std::min(chunk, size - first);
      for (std::int64_t r = 0; r < num_rows;) {
        T partial[chunk] = {};
        const std::int64_t part = part_of(cuts, r);
        for (; r < num_rows && part_of(cuts, r) == part; ++r) {
          const X* up = dy + r * size + first;
          for (std::int64_t d = 0; d < n; ++d) partial[d] += widen<T>(up[d]);
        }
        add_partial(db + first, partial, n, cuts.refused);
      }
    }
  }
};

}  // namespace

void bias_add(const Stream& stream, const Tensor& bias_N, const Tensor& x_MN) {
  FOURMI_DOOR(bias_add, stream, bias_N, x_MN);
  const std::int64_t rows = x_MN.dim(0), size = bias_N.num_elements();
  FOURMI_CHECK(x_MN.num_elements() == rows * size, "x {}, bias {}", to_string(x_MN.shape), to_string(bias_N.shape));
  visit_float(x_MN.dtype, "bias_add", [&]<class X>(std::type_identity<X>) {
    run_rows(stream, rows, grain_of(size), Add<X>{bias_N.as<Accumulator<X>>(), x_MN.as<X>(), size});
  });
}

void bias_backward(const Stream& stream, const Tensor& dy_MN, const Tensor& db_N, const Cuts& cuts) {
  FOURMI_DOOR(bias_backward, stream, dy_MN, db_N, cuts);
  const std::int64_t rows = dy_MN.dim(0), size = db_N.num_elements();
  if (rows == 0) return;
  FOURMI_CHECK(dy_MN.num_elements() == rows * size, "dy {}, db {}", to_string(dy_MN.shape), to_string(db_N.shape));
  visit_float(dy_MN.dtype, "bias_backward", [&]<class X>(std::type_identity<X>) {
    const auto run = [&]<class W>(W* db) {
      run_rows(stream, (size + chunk - 1) / chunk, grain_of(rows * chunk),
               Backward<X, W>{dy_MN.as<X>(), db, rows, size, cuts});
    };
    if (db_N.dtype == DType::fx128)
      run(db_N.as<int128>());
    else
      run(db_N.as<Accumulator<X>>());
  });
}

}  // namespace fourmi
