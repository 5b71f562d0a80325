#include <cstring>

#include "kernels/cpu/rotary_pairs.h"
#include "kernels/cpu/run_rows.h"
#include "kernels/numerics/power_of_two.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {
namespace {

template <class X>
FOURMI_INLINE void copy(const X* src, X* dst, std::int64_t n) {
  std::memcpy(dst, src, static_cast<std::size_t>(n) * sizeof(X));
}

/// Shapes, and the pointers of the operation's operands; `q` and `a` point at their first used column.
template <class X>
struct Operands {
  Angles<Accumulator<X>> angles;
  RotaryLayout layout;
  std::int64_t num_heads, nope, rope, v;
  X *q, *kv, *a;  // projections
  std::int64_t q_stride, a_stride;
  X *q_MHQ, *k_MHQ, *v_MHV;  // attention's operands
};

template <class X>
struct Forward {
  Operands<X> o;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t r = begin; r < end; ++r) {
      const auto* angle = o.angles.row(r);
      if (o.q_MHQ != nullptr) queries(r, angle);
      if (o.k_MHQ != nullptr) keys_and_values(r, angle);
    }
  }

  template <class Angle>
  FOURMI_INLINE void queries(std::int64_t r, const Angle* angle) const {
    const std::int64_t width = o.nope + o.rope;
    const X* in = o.q + r * o.q_stride;
    X* out = o.q_MHQ + r * o.num_heads * width;
    for (std::int64_t h = 0; h < o.num_heads; ++h, in += width, out += width) {
      copy(in, out, o.nope);
      rotate_head<false>(o.layout, angle, o.rope / 2, in + o.nope, out + o.nope);
    }
  }

  template <class Angle>
  FOURMI_INLINE void keys_and_values(std::int64_t r, const Angle* angle) const {
    const std::int64_t width = o.nope + o.rope;
    const X* in = o.kv + r * o.num_heads * (o.nope + o.v);
    X* k_out = o.k_MHQ + r * o.num_heads * width;
    X* v_out = o.v_MHV + r * o.num_heads * o.v;
    X* shared = k_out + o.nope;  // the first head's copy of the rotated key is the source of the others
    rotate_head<false>(o.layout, angle, o.rope / 2, o.a + r * o.a_stride, shared);
    for (std::int64_t h = 0; h < o.num_heads; ++h, in += o.nope + o.v, k_out += width, v_out += o.v) {
      copy(in, k_out, o.nope);
      if (h > 0) copy(shared, k_out + o.nope, o.rope);
      copy(in + o.nope, v_out, o.v);
    }
  }
};

/// The largest power of two up to 8 that divides the number of heads (docs/numerics.md, "Rotary embedding"), unless the
/// caller says how many of a larger number's leaves these heads are.
std::int64_t leaves_of(const MlaAssemble& mla) {
  if (mla.head_leaves > 0) {
    FOURMI_CHECK(is_power_of_two(mla.head_leaves) && mla.num_heads % mla.head_leaves == 0, "{} leaves of {} heads",
                 mla.head_leaves, mla.num_heads);
    return mla.head_leaves;
  }
  std::int64_t leaves = 8;
  while (mla.num_heads % leaves != 0) leaves /= 2;
  return leaves;
}

template <class X>
struct Backward {
  Operands<X> o;
  using T = Accumulator<X>;
  std::int64_t leaves;
  T* dk_pe;  // [M, rope], or null: rotated back into a

  /// Sum over heads of one column of dk: ascending inside a leaf, leaves by a perfect binary tree.
  FOURMI_INLINE void sum_heads(const X* dk, std::int64_t width, T* leaf) const {
    const std::int64_t heads_per_leaf = o.num_heads / leaves, rope = o.rope;
    for (std::int64_t c = 0; c < leaves; ++c) {
      T* sum = leaf + c * rope;
      for (std::int64_t h = 0; h < heads_per_leaf; ++h, dk += width)
        for (std::int64_t i = 0; i < rope; ++i) sum[i] = h == 0 ? widen<T>(dk[i]) : sum[i] + widen<T>(dk[i]);
    }
    for (std::int64_t apart = 1; apart < leaves; apart *= 2)
      for (std::int64_t c = 0; c < leaves; c += 2 * apart)
        for (std::int64_t i = 0; i < rope; ++i) leaf[c * rope + i] += leaf[(c + apart) * rope + i];
  }

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    const std::int64_t width = o.nope + o.rope, half = o.rope / 2;
    T* leaf = WorkingMemory::mine().get<T>(WorkingUse::row, leaves * o.rope);
    for (std::int64_t r = begin; r < end; ++r) {
      const auto* angle = o.angles.row(r);
      X* q_out = o.q + r * o.q_stride;
      X* kv_out = o.kv + r * o.num_heads * (o.nope + o.v);
      const X* dq = o.q_MHQ + r * o.num_heads * width;
      const X* dk = o.k_MHQ + r * o.num_heads * width;
      const X* dv = o.v_MHV + r * o.num_heads * o.v;
      sum_heads(dk + o.nope, width, leaf);
      if (dk_pe != nullptr)
        copy(static_cast<const T*>(leaf), dk_pe + r * o.rope, o.rope);
      else
        rotate_head<true>(o.layout, angle, half, leaf, o.a + r * o.a_stride);
      for (std::int64_t h = 0; h < o.num_heads; ++h) {
        copy(dq, q_out, o.nope);
        rotate_head<true>(o.layout, angle, half, dq + o.nope, q_out + o.nope);
        copy(dk, kv_out, o.nope);
        copy(dv, kv_out + o.nope, o.v);
        q_out += width, dq += width, dk += width, kv_out += o.nope + o.v, dv += o.v;
      }
    }
  }
};

template <class X>
struct RotaryKeyBackward {
  using T = Accumulator<X>;
  Angles<T> angles;
  RotaryLayout layout;
  const T* dk_pe;
  X* a;
  std::int64_t rope, a_stride;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t r = begin; r < end; ++r)
      rotate_head<true>(layout, angles.row(r), rope / 2, dk_pe + r * rope, a + r * a_stride);
  }
};

/// Elements of a row of a_MA, 0 where it is absent.
std::int64_t row_of_keys(const MlaAssemble& mla, const Tensor& a, std::int64_t rows) {
  if (!a) return 0;
  FOURMI_CHECK(a.dim(0) == rows && mla.k_column + mla.rope <= a.num_elements() / rows, "a {}, {} columns from {}",
               to_string(a.shape), mla.rope, mla.k_column);
  return a.num_elements() / rows;
}

template <class X>
Operands<X> operands(const MlaAssemble& mla, const Tensor& table, const Tensor& positions, const Tensor& q,
                     const Tensor& kv, const Tensor& a, const Tensor& q_MHQ, const Tensor& k_MHQ, const Tensor& v_MHV) {
  const std::int64_t rows = (q_MHQ ? q_MHQ : k_MHQ).dim(0), heads = mla.num_heads, width = mla.nope + mla.rope;
  const std::int64_t q_stride = q ? q.num_elements() / rows : 0, a_stride = row_of_keys(mla, a, rows);
  const auto fits = [&](const Tensor& t, std::int64_t columns) { return t.num_elements() == rows * heads * columns; };
  FOURMI_CHECK(!q_MHQ || (q.dim(0) == rows && mla.q_column + heads * width <= q_stride && fits(q_MHQ, width)),
               "q {} and {}, {} heads of {} from column {}", to_string(q.shape), to_string(q_MHQ.shape), heads, width,
               mla.q_column);
  FOURMI_CHECK(!k_MHQ || (fits(kv, mla.nope + mla.v) && fits(k_MHQ, width) && fits(v_MHV, mla.v)),
               "kv {}, k {}, v {} of {} rows", to_string(kv.shape), to_string(k_MHQ.shape), to_string(v_MHV.shape),
               rows);
  FOURMI_CHECK(table.dim(1) * 2 == mla.rope, "a table of {} pairs, {} columns to rotate", table.dim(1), mla.rope);
  return {angles_of<Accumulator<X>>(table, positions, rows),
          mla.layout,
          heads,
          mla.nope,
          mla.rope,
          mla.v,
          q ? q.as<X>() + mla.q_column : nullptr,
          kv ? kv.as<X>() : nullptr,
          a ? a.as<X>() + mla.k_column : nullptr,
          q_stride,
          a_stride,
          q_MHQ ? q_MHQ.as<X>() : nullptr,
          k_MHQ ? k_MHQ.as<X>() : nullptr,
          v_MHV ? v_MHV.as<X>() : nullptr};
}

}  // namespace

void mla_assemble_forward(const Stream& stream, const MlaAssemble& mla, const Tensor& table_PH2,
                          const Tensor& positions_M, const Tensor& q_MB, const Tensor& kv_MHC, const Tensor& a_MA,
                          const Tensor& q_MHQ, const Tensor& k_MHQ, const Tensor& v_MHV) {
  FOURMI_DOOR(mla_assemble_forward, stream, mla, table_PH2, positions_M, q_MB, kv_MHC, a_MA, q_MHQ, k_MHQ, v_MHV);
  const Span span(stream.timeline(), Work::attention, "mla_assemble_forward");
  const Tensor& given = q_MHQ ? q_MHQ : k_MHQ;
  const std::int64_t rows = given.dim(0);
  if (rows == 0) return;
  FOURMI_CHECK(!k_MHQ || a_MA, "keys without their shared part");
  visit_float(given.dtype, "mla_assemble", [&]<class X>(std::type_identity<X>) {
    const Forward<X> body{operands<X>(mla, table_PH2, positions_M, q_MB, kv_MHC, a_MA, q_MHQ, k_MHQ, v_MHV)};
    run_rows(short_vectors(stream), rows, grain_of(2 * given.num_elements() / rows), body);
  });
}

void mla_assemble_backward(const Stream& stream, const MlaAssemble& mla, const Tensor& table_PH2,
                           const Tensor& positions_M, const Tensor& dq_MHQ, const Tensor& dk_MHQ, const Tensor& dv_MHV,
                           const Tensor& dq_MB, const Tensor& dkv_MHC, const Tensor& da_MA, const Tensor& dk_pe_MR) {
  FOURMI_DOOR(mla_assemble_backward, stream, mla, table_PH2, positions_M, dq_MHQ, dk_MHQ, dv_MHV, dq_MB, dkv_MHC, da_MA,
              dk_pe_MR);
  const Span span(stream.timeline(), Work::attention, "mla_assemble_backward");
  const std::int64_t rows = dq_MHQ.dim(0);
  if (rows == 0) return;
  FOURMI_CHECK(dk_pe_MR ? dk_pe_MR.num_elements() == rows * mla.rope : static_cast<bool>(da_MA),
               "dk_pe {}, da {}, {} rows of {}", to_string(dk_pe_MR.shape), to_string(da_MA.shape), rows, mla.rope);
  visit_float(dq_MHQ.dtype, "mla_assemble", [&]<class X>(std::type_identity<X>) {
    const Backward<X> body{operands<X>(mla, table_PH2, positions_M, dq_MB, dkv_MHC, da_MA, dq_MHQ, dk_MHQ, dv_MHV),
                           leaves_of(mla), dk_pe_MR ? dk_pe_MR.as<Accumulator<X>>() : nullptr};
    run_rows(short_vectors(stream), rows, grain_of(2 * dq_MHQ.num_elements() / rows), body);
  });
}

void mla_rotary_key_backward(const Stream& stream, const MlaAssemble& mla, const Tensor& table_PH2,
                             const Tensor& positions_M, const Tensor& dk_pe_MR, const Tensor& da_MA) {
  FOURMI_DOOR(mla_rotary_key_backward, stream, mla, table_PH2, positions_M, dk_pe_MR, da_MA);
  const Span span(stream.timeline(), Work::attention, "mla_rotary_key_backward");
  const std::int64_t rows = da_MA.dim(0);
  if (rows == 0) return;
  FOURMI_CHECK(dk_pe_MR.num_elements() == rows * mla.rope && table_PH2.dim(1) * 2 == mla.rope,
               "dk_pe {}, da {}, {} columns to rotate, a table of {} pairs", to_string(dk_pe_MR.shape),
               to_string(da_MA.shape), mla.rope, table_PH2.dim(1));
  visit_float(da_MA.dtype, "mla_rotary_key", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    const RotaryKeyBackward<X> body{angles_of<T>(table_PH2, positions_M, rows),
                                    mla.layout,
                                    dk_pe_MR.as<T>(),
                                    da_MA.as<X>() + mla.k_column,
                                    mla.rope,
                                    row_of_keys(mla, da_MA, rows)};
    run_rows(short_vectors(stream), rows, grain_of(mla.rope), body);
  });
}

}  // namespace fourmi
