// The gradients of the weights of query and key heads' norms.
#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/rotary_pairs.h"
#include "kernels/cpu/run_rows.h"
#include "kernels/ops/door.h"
#include "kernels/ops/gqa_assemble.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

constexpr std::int64_t chunk = 16;  // pairs whose partial is held at once

/// Heads of one kind: queries or keys.
template <class X, class W>
struct Kind {
  using T = Accumulator<X>;
  const X* dy;  // [M, heads, Q]
  std::int64_t heads, first_head;
  W* dw;
};

/// Rows of this body are chunks of pairs, those of the queries' weight first: a thread never takes a part of an
/// element's sum.
template <class X, class W>
struct Body {
  using T = Accumulator<X>;
  Angles<T> angles;
  Kind<X, W> kinds[2];
  const X* a;
  const T* rstd;
  std::int64_t num_rows, width, num_heads, Q, num_chunks, leaves;
  Cuts cuts;

  /// Heads [from, to) of one row.
  FOURMI_INLINE void add_row(const Kind<X, W>& kind, std::int64_t r, std::int64_t from, std::int64_t to,
                             std::int64_t first, std::int64_t n, T* low, T* high) const {
    const std::int64_t half = angles.half;
    const T* angle = angles.row(r) + 2 * first;
    for (std::int64_t h = from; h < to; ++h) {
      const X* in = a + r * width + (kind.first_head + h) * Q + first;
      const X* dy = kind.dy + (r * kind.heads + h) * Q + first;
      const T scale = rstd[r * num_heads + kind.first_head + h];
      for (std::int64_t j = 0; j < n; ++j) {
        T up_low, up_high;
        rotate_pair<true>(widen<T>(dy[j]), widen<T>(dy[j + half]), angle[2 * j], angle[2 * j + 1], up_low, up_high);
        low[j] = fma(up_low, widen<T>(in[j]) * scale, low[j]);
        high[j] = fma(up_high, widen<T>(in[j + half]) * scale, high[j]);
      }
    }
  }

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t c = begin; c < end; ++c) {
      const Kind<X, W>& kind = kinds[c / num_chunks];
      const std::int64_t first = c % num_chunks * chunk, n = std::min(chunk, angles.half - first);
      for (std::int64_t r = 0; r < num_rows;) {
        const std::int64_t part = part_of(cuts, r), part_begin = r, heads = kind.heads / leaves;
        while (r < num_rows && part_of(cuts, r) == part) ++r;
        for (std::int64_t leaf = 0; leaf < leaves; ++leaf) {
          T low[chunk] = {}, high[chunk] = {};
          for (std::int64_t i = part_begin; i < r; ++i)
            add_row(kind, i, leaf * heads, (leaf + 1) * heads, first, n, low, high);
          add_partial(kind.dw + first, low, n, cuts.refused);
          add_partial(kind.dw + angles.half + first, high, n, cuts.refused);
        }
      }
    }
  }
};

}  // namespace

void gqa_assemble_backward_weight(const Stream& stream, const GqaAssemble& op, const Tensor& table_PH2,
                                  const Tensor& positions_M, const Tensor& dq_MHQ, const Tensor& dk_MGQ,
                                  const Tensor& a_MA, const Tensor& rstd_MN, const Tensor& dq_weight_Q,
                                  const Tensor& dk_weight_Q, const Cuts& cuts) {
  FOURMI_DOOR(gqa_assemble_backward_weight, stream, op, table_PH2, positions_M, dq_MHQ, dk_MGQ, a_MA, rstd_MN,
              dq_weight_Q, dk_weight_Q, cuts);
  const std::int64_t rows = a_MA.dim(0), H = op.num_heads, G = op.num_key_heads, Q = op.head_dim;
  if (rows == 0) return;
  FOURMI_CHECK(Q % 2 == 0 && table_PH2.dim(1) * 2 == Q && a_MA.num_elements() == rows * (H + 2 * G) * Q &&
                   dq_MHQ.num_elements() == rows * H * Q && dk_MGQ.num_elements() == rows * G * Q &&
                   rstd_MN.num_elements() == rows * (H + G) && dq_weight_Q.num_elements() == Q &&
                   dk_weight_Q.num_elements() == Q,
               "a {}, dq {}, dk {}, rstd {}, weights {} and {}", to_string(a_MA.shape), to_string(dq_MHQ.shape),
               to_string(dk_MGQ.shape), to_string(rstd_MN.shape), to_string(dq_weight_Q.shape),
               to_string(dk_weight_Q.shape));
  FOURMI_CHECK(op.head_leaves >= 1 && H % op.head_leaves == 0 && G % op.head_leaves == 0,
               "{} leaves of {} and {} heads", op.head_leaves, H, G);
  visit_float(a_MA.dtype, "gqa_assemble", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    const std::int64_t num_chunks = (Q / 2 + chunk - 1) / chunk;
    const auto run = [&]<class W>(W* dqw, W* dkw) {
      const Body<X, W> body{angles_of<T>(table_PH2, positions_M, rows),
                            {{dq_MHQ.as<X>(), H, 0, dqw}, {dk_MGQ.as<X>(), G, H, dkw}},
                            a_MA.as<X>(),
                            rstd_MN.as<T>(),
                            rows,
                            (H + 2 * G) * Q,
                            H + G,
                            Q,
                            num_chunks,
                            op.head_leaves,
                            cuts};
      run_rows(short_vectors(stream), 2 * num_chunks, grain_of(rows * chunk * H), body);
    };
    if (dq_weight_Q.dtype == DType::fx128)
      run(dq_weight_Q.as<int128>(), dk_weight_Q.as<int128>());
    else
      run(dq_weight_Q.as<T>(), dk_weight_Q.as<T>());
  });
}

}  // namespace fourmi
