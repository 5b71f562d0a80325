// Attention as cuDNN sees it: pure, so that a test can ask for any call.
//
// cuDNN's tensors are [documents, heads, rows of a document, size]. Ours are rows of all documents one behind another,
// which it calls ragged: a table says where each document begins, in elements, and the strides of heads and rows are
// those of our rows. So log-sum-exps too lie as our own kernels have them, [rows, heads], and either can follow the
// other.
#pragma once

#include <algorithm>
#include <bit>
#include <compare>
#include <cstdint>
#include <optional>

#include "kernels/ops/attention.h"

namespace fourmi::cuda::library {

/// One shape of call. `heads` of a launch may be some of all, with their key heads.
struct AttentionGraph {
  bool backward = false;
  std::int64_t documents = 0;  ///< room in the tables; documents of no rows are the last ones
  std::int64_t longest = 0;    ///< rows of a document at most
  std::int64_t rows = 0;       ///< of all documents
  std::int64_t heads = 0, key_heads = 0;
  std::int64_t all_heads = 0, all_key_heads = 0;
  std::int64_t Q = 0, V = 0;
  float scale = 1;
  auto operator<=>(const AttentionGraph&) const = default;
};

/// Elements from head to head and from row to row.
struct RaggedTensor {
  std::int64_t heads, size, head_stride, row_stride;
};
constexpr RaggedTensor query_of(const AttentionGraph& g) {
  return {g.heads, g.Q, g.Q, g.all_heads * g.Q};
}
constexpr RaggedTensor key_of(const AttentionGraph& g) {
  return {g.key_heads, g.Q, g.Q, g.all_key_heads * g.Q};
}
constexpr RaggedTensor value_of(const AttentionGraph& g) {
  return {g.key_heads, g.V, g.V, g.all_key_heads * g.V};
}
constexpr RaggedTensor output_of(const AttentionGraph& g) {
  return {g.heads, g.V, g.V, g.all_heads * g.V};
}
constexpr RaggedTensor lse_of(const AttentionGraph& g) {
  return {g.heads, 1, 1, g.all_heads};
}

/// Of the device. Tables: lengths [documents], and [documents + 1] first elements of each document in q, k, v, o and
/// lse; gradients lie as what they are of.
struct AttentionOperands {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  void* o = nullptr;
  float* lse = nullptr;
  const void* d_o = nullptr;
  void *dq = nullptr, *dk = nullptr, *dv = nullptr;
  const std::int32_t *lengths = nullptr, *q_begin = nullptr, *k_begin = nullptr, *v_begin = nullptr, *o_begin = nullptr,
                     *lse_begin = nullptr;
};
inline constexpr std::int64_t num_tables = 6;

/// A size that few shapes of calls share: plans are made once each. At most a quarter more than n.
constexpr std::int64_t rounded_up(std::int64_t n, std::int64_t least) {
  if (n <= least) return least;
  const auto floor = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(n)));
  const std::int64_t step = std::max(floor / 4, least);
  return (n + step - 1) / step * step;
}

/// The tensors of a call; those of backward are absent in forward.
struct AttentionTensors {
  const Tensor &q_MHQ, &k_MGQ, &v_MGV, &o_MHV, &lse_MH;
  const Tensor *do_MHV = nullptr, *dq_MHQ = nullptr, *dk_MGQ = nullptr, *dv_MGV = nullptr;
};

/// The call as cuDNN's, or nothing where it is not one of its calls: it takes bf16 in and out, whole documents, heads
/// of 64, 128, or 192 with values of 128, and offsets of 31 bits.
inline std::optional<AttentionGraph> graph_of(const Attention& attention, const AttentionTensors& t) {
  const std::int64_t M = t.q_MHQ.dim(0), H = t.q_MHQ.dim(1), G = t.k_MGQ.dim(1), Q = t.q_MHQ.dim(2), V = t.v_MGV.dim(2);
  if (attention.documents.count <= 0 || attention.documents.longest <= 0 || attention.query_leaves > 0) return {};
  if (M == 0 || G == 0 || H % G != 0) return {};
  const auto has = [](const Tensor* x, const Shape& shape) { return !x || x->shape == shape; };
  const Shape key{M, G, Q}, value{M, G, V}, out{M, H, V};
  if (!has(&t.k_MGQ, key) || !has(&t.v_MGV, value) || !has(&t.o_MHV, out) || t.lse_MH.num_elements() != M * H ||
      !has(t.do_MHV, out) || !has(t.dq_MHQ, t.q_MHQ.shape) || !has(t.dk_MGQ, key) || !has(t.dv_MGV, value))
    return {};  // where it is wrong ours say so
  if (!((Q == V && (Q == 64 || Q == 128)) || (Q == 192 && V == 128))) return {};
  for (const Tensor* x : {&t.q_MHQ, &t.k_MGQ, &t.v_MGV, &t.o_MHV, t.do_MHV, t.dq_MHQ, t.dk_MGQ, t.dv_MGV})
    if (x && (x->dtype != DType::bf16 || reinterpret_cast<std::uintptr_t>(x->data) % 16 != 0)) return {};
  if (t.lse_MH.dtype != DType::f32) return {};
  if (M * H * std::max(Q, V) >= std::int64_t{1} << 31) return {};
  return AttentionGraph{.backward = t.do_MHV != nullptr,
                        .documents = rounded_up(attention.documents.count, 1),
                        .longest = rounded_up(std::min(attention.documents.longest, M), 128),
                        .rows = M,
                        .heads = H,
                        .key_heads = G,
                        .all_heads = H,
                        .all_key_heads = G,
                        .Q = Q,
                        .V = V,
                        .scale = static_cast<float>(attention.scale)};
}

/// The same call for some of its key heads, with their query heads.
constexpr AttentionGraph part_of(AttentionGraph g, std::int64_t key_heads) {
  g.heads = g.all_heads / g.all_key_heads * key_heads, g.key_heads = key_heads;
  return g;
}

/// Scratch memory that a launch takes at the least. Backward in a fixed order has the scores' gradients of all pairs in
/// memory, in bf16.
constexpr std::int64_t least_scratch_bytes(const AttentionGraph& g) {
  const auto up = [](std::int64_t n, std::int64_t of) { return (n + of - 1) / of * of; };
  return g.backward ? 2 * g.documents * g.heads * up(g.longest, 64) * up(g.longest, 128) : 0;
}

}  // namespace fourmi::cuda::library
