#include "kernels/ops/gqa_assemble.h"

#include <cstring>

#include "kernels/cpu/rotary_pairs.h"
#include "kernels/cpu/run_rows.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {
namespace {

/// Shapes and pointers; in backward the operands hold gradients, and `out` receives that of `a`.
template <class X>
struct Operands {
  using T = Accumulator<X>;
  Angles<T> angles;
  std::int64_t H, G, Q;
  X* a;
  const T *q_weight, *k_weight;  // null: no norm
  T* rstd;
  X *q, *k, *v;
  X* out = nullptr;
  T epsilon;

  FOURMI_INLINE std::int64_t width() const { return (H + 2 * G) * Q; }
  FOURMI_INLINE T* rstd_row(std::int64_t r) const { return rstd == nullptr ? nullptr : rstd + r * (H + G); }
  FOURMI_INLINE T* key_rstd_row(std::int64_t r) const { return rstd == nullptr ? nullptr : rstd + r * (H + G) + H; }
};

/// Room for one head in the accumulator dtype.
template <class T>
FOURMI_INLINE T* head_buffer(std::int64_t size) {
  return WorkingMemory::mine().get<T>(WorkingUse::row, size);
}

template <class X>
struct Forward {
  using T = Accumulator<X>;
  Operands<X> o;

  FOURMI_INLINE void heads(const X* in, std::int64_t count, const T* angle, const T* weight, T* rstd, X* to,
                           T* head) const {
    for (std::int64_t h = 0; h < count; ++h, in += o.Q, to += o.Q) {
      if (weight == nullptr) {
        rotate_head<false>(RotaryLayout::half_split, angle, o.angles.half, in, to);
        continue;
      }
      const T scale = T{1} / square_root(lane_dot<T>(in, in, o.Q) / static_cast<T>(o.Q) + o.epsilon);
      for (std::int64_t d = 0; d < o.Q; ++d) head[d] = widen<T>(in[d]) * scale * weight[d];
      rstd[h] = scale;
      rotate_head<false>(RotaryLayout::half_split, angle, o.angles.half, static_cast<const T*>(head), to);
    }
  }

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    T* head = head_buffer<T>(o.Q);
    for (std::int64_t r = begin; r < end; ++r) {
      const T* angle = o.angles.row(r);
      const X* in = o.a + r * o.width();
      heads(in, o.H, angle, o.q_weight, o.rstd_row(r), o.q + r * o.H * o.Q, head);
      heads(in + o.H * o.Q, o.G, angle, o.k_weight, o.key_rstd_row(r), o.k + r * o.G * o.Q, head);
      std::memcpy(o.v + r * o.G * o.Q, in + (o.H + o.G) * o.Q, static_cast<std::size_t>(o.G * o.Q) * sizeof(X));
    }
  }
};

template <class X>
struct BackwardInput {
  using T = Accumulator<X>;
  Operands<X> o;

  FOURMI_INLINE void heads(const X* dy, const X* in, std::int64_t count, const T* angle, const T* weight, const T* rstd,
                           X* to, T* up) const {
    for (std::int64_t h = 0; h < count; ++h, dy += o.Q, in += o.Q, to += o.Q) {
      if (weight == nullptr) {
        rotate_head<true>(RotaryLayout::half_split, angle, o.angles.half, dy, to);
        continue;
      }
      rotate_head<true>(RotaryLayout::half_split, angle, o.angles.half, dy, up);
      const T* w = weight;
      const T sum = sum_by_lanes<T>(
          o.Q, [=](T & lane, std::int64_t d)
                   __attribute__((always_inline)) { lane = fma(up[d] * w[d], widen<T>(in[d]), lane); });
      const T scale = rstd[h], k = sum * scale * scale / static_cast<T>(o.Q);
      for (std::int64_t d = 0; d < o.Q; ++d) to[d] = narrow<X>(scale * fma(-k, widen<T>(in[d]), up[d] * w[d]));
    }
  }

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    T* up = head_buffer<T>(o.Q);
    for (std::int64_t r = begin; r < end; ++r) {
      const T* angle = o.angles.row(r);
      const X* in = o.a + r * o.width();
      X* out = o.out + r * o.width();
      heads(o.q + r * o.H * o.Q, in, o.H, angle, o.q_weight, o.rstd_row(r), out, up);
      heads(o.k + r * o.G * o.Q, in + o.H * o.Q, o.G, angle, o.k_weight, o.key_rstd_row(r), out + o.H * o.Q, up);
      std::memcpy(out + (o.H + o.G) * o.Q, o.v + r * o.G * o.Q, static_cast<std::size_t>(o.G * o.Q) * sizeof(X));
    }
  }
};

template <class X>
Operands<X> operands(const GqaAssemble& op, const Tensor& table, const Tensor& positions, const Tensor& a,
                     const HeadNorm& norm, const Tensor& q, const Tensor& k, const Tensor& v) {
  using T = Accumulator<X>;
  const std::int64_t rows = a.dim(0), H = op.num_heads, G = op.num_key_heads, Q = op.head_dim;
  FOURMI_CHECK(Q % 2 == 0 && table.dim(1) * 2 == Q && a.num_elements() == rows * (H + 2 * G) * Q &&
                   q.num_elements() == rows * H * Q && k.num_elements() == rows * G * Q &&
                   v.num_elements() == rows * G * Q,
               "a {}, q {}, k {}, v {}, a table of {} pairs", to_string(a.shape), to_string(q.shape),
               to_string(k.shape), to_string(v.shape), table.dim(1));
  const bool normed = static_cast<bool>(norm.q_weight_Q);
  FOURMI_CHECK(normed == static_cast<bool>(norm.k_weight_Q) &&
                   (!normed || (norm.q_weight_Q.num_elements() == Q && norm.k_weight_Q.num_elements() == Q &&
                                norm.rstd_MN.num_elements() == rows * (H + G))),
               "weights {} and {}, rstd {}", to_string(norm.q_weight_Q.shape), to_string(norm.k_weight_Q.shape),
               to_string(norm.rstd_MN.shape));
  return {.angles = angles_of<T>(table, positions, rows),
          .H = H,
          .G = G,
          .Q = Q,
          .a = a.as<X>(),
          .q_weight = normed ? norm.q_weight_Q.as<T>() : nullptr,
          .k_weight = normed ? norm.k_weight_Q.as<T>() : nullptr,
          .rstd = normed ? norm.rstd_MN.as<T>() : nullptr,
          .q = q.as<X>(),
          .k = k.as<X>(),
          .v = v.as<X>(),
          .epsilon = static_cast<T>(op.epsilon)};
}

}  // namespace

void gqa_assemble_forward(const Stream& stream, const GqaAssemble& op, const Tensor& table_PH2,
                          const Tensor& positions_M, const Tensor& a_MA, const HeadNorm& norm, const Tensor& q_MHQ,
                          const Tensor& k_MGQ, const Tensor& v_MGQ) {
  FOURMI_DOOR(gqa_assemble_forward, stream, op, table_PH2, positions_M, a_MA, norm, q_MHQ, k_MGQ, v_MGQ);
  const std::int64_t rows = a_MA.dim(0);
  if (rows == 0) return;
  visit_float(a_MA.dtype, "gqa_assemble", [&]<class X>(std::type_identity<X>) {
    const Forward<X> body{operands<X>(op, table_PH2, positions_M, a_MA, norm, q_MHQ, k_MGQ, v_MGQ)};
    run_rows(short_vectors(stream), rows, grain_of(a_MA.num_elements() / rows), body);
  });
}

void gqa_assemble_backward_input(const Stream& stream, const GqaAssemble& op, const Tensor& table_PH2,
                                 const Tensor& positions_M, const Tensor& dq_MHQ, const Tensor& dk_MGQ,
                                 const Tensor& dv_MGQ, const Tensor& a_MA, const HeadNorm& norm, const Tensor& da_MA) {
  FOURMI_DOOR(gqa_assemble_backward_input, stream, op, table_PH2, positions_M, dq_MHQ, dk_MGQ, dv_MGQ, a_MA, norm,
              da_MA);
  const std::int64_t rows = a_MA.dim(0);
  if (rows == 0) return;
  FOURMI_CHECK(da_MA.num_elements() == a_MA.num_elements(), "da {}, a {}", to_string(da_MA.shape),
               to_string(a_MA.shape));
  visit_float(a_MA.dtype, "gqa_assemble", [&]<class X>(std::type_identity<X>) {
    BackwardInput<X> body{operands<X>(op, table_PH2, positions_M, a_MA, norm, dq_MHQ, dk_MGQ, dv_MGQ)};
    body.o.out = da_MA.as<X>();
    run_rows(short_vectors(stream), rows, grain_of(a_MA.num_elements() / rows), body);
  });
}

}  // namespace fourmi
