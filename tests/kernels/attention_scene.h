// Operands of attention for tests, and what the operation is, written out twice: once in plain double mathematics, once
// scalar by scalar in the order that docs/numerics.md gives.
#pragma once

#include <cmath>

#include "kernels/numerics/flush_denormals.h"
#include "kernels/numerics/lanes.h"
#include "kernels/ops/attention.h"
#include "tests/kernels/buffers.h"

namespace fourmi::test {

/// Lengths of documents inside each sequence; a sequence attends to nothing outside, a document neither.
using Sequences = std::vector<std::vector<std::int64_t>>;

struct AttentionScene {
  DType dtype;
  std::int64_t M, H, G, Q, V;
  Attention attention;
  Buffer q, k, v, begin, end, d_o;

  AttentionScene(DType dtype_, const Sequences& sequences, std::int64_t H_, std::int64_t G_, std::int64_t Q_,
                 std::int64_t V_, std::int64_t block, double noise_scale = 1.0)
      : dtype(dtype_),
        M(length(sequences)),
        H(H_),
        G(G_),
        Q(Q_),
        V(V_),
        attention{1.0 / std::sqrt(static_cast<double>(Q_)), block},
        q(noisy(dtype, {M, H, Q}, 1, noise_scale)),
        k(noisy(dtype, {M, G, Q}, 2, noise_scale)),
        v(noisy(dtype, {M, G, V}, 3)),
        begin(DType::i32, {M}),
        end(DType::i32, {M}),
        d_o(noisy(dtype, {M, H, V}, 4)) {
    std::int64_t row = 0;
    for (const auto& documents : sequences)
      for (std::int64_t n : documents)
        for (std::int64_t first = row; row < first + n; ++row) begin.set(row, first), end.set(row, row + 1);
  }
  static std::int64_t length(const Sequences& sequences) {
    std::int64_t n = 0;
    for (const auto& documents : sequences)
      for (std::int64_t d : documents) n += d;
    return n;
  }
  std::int64_t from(std::int64_t i) const { return begin->as<std::int32_t>()[i]; }
  std::int64_t to(std::int64_t i) const { return end->as<std::int32_t>()[i]; }
  std::int64_t group(std::int64_t h) const { return h / (H / G); }
};

struct AttentionResult {
  Buffer o, lse, dq, dk, dv;
  explicit AttentionResult(const AttentionScene& s) : AttentionResult(s, s.dtype) {}
  /// Gradients of another dtype.
  AttentionResult(const AttentionScene& s, DType gradients)
      : o(s.dtype, {s.q->dim(0), s.H, s.V}),
        lse(accumulate_dtype(s.dtype), {s.q->dim(0), s.H}),
        dq(gradients, s.q->shape),
        dk(gradients, s.k->shape),
        dv(gradients, s.v->shape) {}
};

inline void run_forward(const Stream& stream, const AttentionScene& s, AttentionResult& r) {
  attention_forward(stream, s.attention, s.q, s.k, s.v, s.begin, s.end, r.o, r.lse);
}
inline AttentionResult run_attention(const Stream& stream, const AttentionScene& s, DType gradients) {
  AttentionResult r(s, gradients);
  run_forward(stream, s, r);
  attention_backward(stream, s.attention, s.q, s.k, s.v, s.begin, s.end, r.o, r.lse, s.d_o, r.dq, r.dk, r.dv);
  return r;
}
inline AttentionResult run_attention(const Stream& stream, const AttentionScene& s) {
  return run_attention(stream, s, s.dtype);
}
inline bool same_result(const AttentionResult& a, const AttentionResult& b) {
  return same_bytes(a.o, b.o) && same_bytes(a.lse, b.lse) && same_bytes(a.dq, b.dq) && same_bytes(a.dk, b.dk) &&
         same_bytes(a.dv, b.dv);
}

/// Softmax attention and its gradients in double, straight from the formulas; no blocks, no online softmax.
struct PlainAttention {
  std::vector<double> o, lse, dq, dk, dv;
  explicit PlainAttention(const AttentionScene& s)
      : o(s.d_o.size()), lse(s.M * s.H, -HUGE_VAL), dq(s.q.size()), dk(s.k.size()), dv(s.v.size()) {
    const auto q = s.q.values(), k = s.k.values(), v = s.v.values(), d_o = s.d_o.values();
    const double scale = s.attention.scale;
    for (std::int64_t i = 0; i < s.M; ++i)
      for (std::int64_t h = 0; h < s.H; ++h) {
        const std::int64_t n = s.to(i) - s.from(i), g = s.group(h);
        if (n == 0) continue;
        const double *qi = &q[(i * s.H + h) * s.Q], *di = &d_o[(i * s.H + h) * s.V];
        std::vector<double> p(n), dp(n);
        double sum = 0, mean = 0;
        for (std::int64_t j = 0; j < n; ++j) {
          const std::int64_t key = (s.from(i) + j) * s.G + g;
          double score = 0;
          for (std::int64_t c = 0; c < s.Q; ++c) score += qi[c] * k[key * s.Q + c];
          for (std::int64_t c = 0; c < s.V; ++c) dp[j] += di[c] * v[key * s.V + c];
          sum += p[j] = std::exp(score * scale);
        }
        lse[i * s.H + h] = std::log(sum);
        for (std::int64_t j = 0; j < n; ++j) mean += (p[j] /= sum) * dp[j];
        for (std::int64_t j = 0; j < n; ++j) {
          const std::int64_t key = (s.from(i) + j) * s.G + g;
          const double ds = p[j] * (dp[j] - mean) * scale;
          for (std::int64_t c = 0; c < s.V; ++c) {
            o[(i * s.H + h) * s.V + c] += p[j] * v[key * s.V + c];
            dv[key * s.V + c] += p[j] * di[c];
          }
          for (std::int64_t c = 0; c < s.Q; ++c) {
            dq[(i * s.H + h) * s.Q + c] += ds * k[key * s.Q + c];
            dk[key * s.Q + c] += ds * qi[c];
          }
        }
      }
  }
};

inline void expect_near(const Buffer& got, const std::vector<double>& expected, double tolerance,
                        const std::string& what) {
  double largest = 0, worst = 0;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    ASSERT_FALSE(std::isnan(got.get(i))) << what << " " << i;
    worst = std::max(worst, std::abs(got.get(i) - expected[i]));
  }
  EXPECT_LE(worst, tolerance * std::max(largest, 0.1)) << what;
}

/// The definition of docs/numerics.md "Attention", one scalar operation after the other.
template <class X>
class DefinedAttention {
  using T = Accumulator<X>;

 public:
  explicit DefinedAttention(const AttentionScene& scene) : s(scene), r(scene) {
    for (std::int64_t i = 0; i < s.q->dim(0); ++i)
      for (std::int64_t h = 0; h < s.H; ++h) forward(i, h);
    for (std::int64_t i = 0; i < s.q->dim(0); ++i)
      for (std::int64_t h = 0; h < s.H; ++h) query_gradient(i, h);
    for (std::int64_t j = 0; j < s.k->dim(0); ++j)
      for (std::int64_t g = 0; g < s.G; ++g) key_gradient(j, g);
  }
  const AttentionResult& result() const { return r; }

 private:
  T at(const Buffer& b, std::int64_t i) const { return static_cast<T>(b->as<X>()[i]); }
  T q(std::int64_t i, std::int64_t h, std::int64_t c) const { return at(s.q, (i * s.H + h) * s.Q + c); }
  T k(std::int64_t j, std::int64_t h, std::int64_t c) const { return at(s.k, (j * s.G + s.group(h)) * s.Q + c); }
  T v(std::int64_t j, std::int64_t h, std::int64_t c) const { return at(s.v, (j * s.G + s.group(h)) * s.V + c); }
  T d_o(std::int64_t i, std::int64_t h, std::int64_t c) const { return at(s.d_o, (i * s.H + h) * s.V + c); }

  static constexpr bool pairs = std::is_same_v<X, bfloat16>;

  /// The sum over [0, n) of a(e) b(e): a chain, in bf16 one of pairs, odd element first, denormals flushed.
  template <class A, class B>
  [[gnu::noinline]] static T chain(std::int64_t n, const A& a, const B& b, T sum = 0) {
    const FlushDenormals guard(pairs);
    if (!pairs)
      for (std::int64_t e = 0; e < n; ++e) sum = std::fma(a(e), b(e), sum);
    for (std::int64_t e = 0; pairs && e < n; e += 2) {
      sum = std::fma(e + 1 < n ? a(e + 1) : T{0}, e + 1 < n ? b(e + 1) : T{0}, sum);
      sum = std::fma(a(e), b(e), sum);
    }
    return sum;
  }
  /// A probability or its gradient as a factor.
  static T factor(T x) {
    if constexpr (pairs)
      return static_cast<T>(bfloat16(std::abs(x) < 0x1p-126F ? x * 0 : x));
    else
      return x;
  }

  T score(std::int64_t i, std::int64_t h, std::int64_t j) const {
    const T sum = chain(
        s.Q, [&](std::int64_t c) { return q(i, h, c); }, [&](std::int64_t c) { return k(j, h, c); });
    return sum * static_cast<T>(s.attention.scale);
  }
  T probability(std::int64_t i, std::int64_t h, std::int64_t j) const {
    return fourmi::exp(score(i, h, j) - r.lse->as<T>()[i * s.H + h]);
  }
  T score_gradient(std::int64_t i, std::int64_t h, std::int64_t j) const {
    const T dp = chain(
        s.V, [&](std::int64_t c) { return d_o(i, h, c); }, [&](std::int64_t c) { return v(j, h, c); });
    const std::int64_t row = (i * s.H + h) * s.V;
    const T delta = lane_dot<T>(s.d_o->as<X>() + row, r.o->as<X>() + row, s.V);
    return probability(i, h, j) * (dp - delta);
  }

  void forward(std::int64_t i, std::int64_t h) {
    const std::int64_t block = s.attention.block;
    T m = -std::numeric_limits<T>::infinity(), l = 0;
    std::vector<T> o(static_cast<std::size_t>(s.V));
    for (std::int64_t first = 0; first < s.to(i); first += block) {
      const std::int64_t from = std::max(first, s.from(i)), to = std::min(first + block, s.to(i));
      if (from >= to) continue;
      T most = m;
      for (std::int64_t j = from; j < to; ++j) most = std::max(most, score(i, h, j));
      const T rescale = fourmi::exp(m - most);
      T lane[16] = {};
      std::vector<T> p(static_cast<std::size_t>(to - first));
      for (std::int64_t j = from; j < to; ++j)
        lane[(j - first) % 16] += p[j - first] = fourmi::exp(score(i, h, j) - most);
      for (std::int64_t c = 0; c < s.V; ++c) {
        const auto value = [&](std::int64_t e) { return first + e < from ? T{0} : v(first + e, h, c); };
        const auto weight = [&](std::int64_t e) { return factor(p[e]); };
        if (pairs)  // a partial a block
          o[c] = std::fma(o[c], rescale, chain(to - first, weight, value) + T{0});
        else
          o[c] = chain(to - first, weight, value, o[c] * rescale);
      }
      l = std::fma(l, rescale, fold_lanes(lane));
      m = most;
    }
    const T inverse = l == 0 ? T{0} : T{1} / l;
    for (std::int64_t c = 0; c < s.V; ++c) r.o->as<X>()[(i * s.H + h) * s.V + c] = static_cast<X>(o[c] * inverse);
    r.lse->as<T>()[i * s.H + h] = m + fourmi::log(l);
  }

  void query_gradient(std::int64_t i, std::int64_t h) {
    std::vector<T> sum(static_cast<std::size_t>(s.Q));
    const std::int64_t block = s.attention.block;
    for (std::int64_t first = s.from(i) / block * block; first < s.to(i); first += block) {
      const std::int64_t from = std::max(first, s.from(i)), to = std::min(first + block, s.to(i));
      std::vector<T> ds(static_cast<std::size_t>(to - first));  // pairs count from the block's first key
      for (std::int64_t j = from; j < to; ++j) ds[j - first] = factor(score_gradient(i, h, j));
      for (std::int64_t c = 0; c < s.Q; ++c)
        sum[c] = chain(
            to - first, [&](std::int64_t e) { return ds[e]; },
            [&](std::int64_t e) { return first + e < from ? T{0} : k(first + e, h, c); }, sum[c]);
    }
    for (std::int64_t c = 0; c < s.Q; ++c)
      r.dq->as<X>()[(i * s.H + h) * s.Q + c] = static_cast<X>((sum[c] + T{0}) * static_cast<T>(s.attention.scale));
  }

  static T tree(const std::vector<std::vector<T>>& leaf, std::size_t c, std::size_t begin, std::size_t end) {
    if (end - begin == 1) return leaf[begin][c];
    return tree(leaf, c, begin, (begin + end) / 2) + tree(leaf, c, (begin + end) / 2, end);
  }

  void key_gradient(std::int64_t j, std::int64_t g) {
    const std::int64_t block = s.attention.block, rows = s.q->dim(0), heads = s.H / s.G,
                       leaves = s.attention.query_leaves;
    std::vector<T> dk(static_cast<std::size_t>(s.Q)), dv(static_cast<std::size_t>(s.V));
    std::vector<std::vector<T>> dk_leaves, dv_leaves;
    const std::int64_t run_rows = leaves > 0 ? leaves * block : rows;  // of the run that has the key
    const std::int64_t run = leaves > 0 ? j / (s.k->dim(0) / (rows / run_rows)) : 0;
    for (std::int64_t first = run * run_rows; first < (run + 1) * run_rows; first += block) {
      std::vector<T> dk_part(dk.size()), dv_part(dv.size());
      for (std::int64_t h = g * heads; h < (g + 1) * heads; ++h) {
        const std::int64_t n = std::min(block, rows - first);
        std::vector<T> p(static_cast<std::size_t>(n)), ds(p.size());
        const auto seen = [&](std::int64_t e) { return s.from(first + e) <= j && j < s.to(first + e); };
        for (std::int64_t e = 0; e < n; ++e)
          if (seen(e)) p[e] = factor(probability(first + e, h, j)), ds[e] = factor(score_gradient(first + e, h, j));
        // Rows that do not see the key have zeros.
        for (std::int64_t c = 0; c < s.V; ++c)
          dv_part[c] = chain(
              n, [&](std::int64_t e) { return p[e]; },
              [&](std::int64_t e) { return seen(e) ? d_o(first + e, h, c) : T{0}; }, dv_part[c]);
        for (std::int64_t c = 0; c < s.Q; ++c)
          dk_part[c] = chain(
              n, [&](std::int64_t e) { return ds[e]; },
              [&](std::int64_t e) { return seen(e) ? q(first + e, h, c) : T{0}; }, dk_part[c]);
      }
      if (leaves > 0) {
        for (T& x : dk_part) x = x * static_cast<T>(s.attention.scale) + T{0};
        for (T& x : dv_part) x = x + T{0};
        dk_leaves.push_back(dk_part), dv_leaves.push_back(dv_part);
        continue;
      }
      for (std::size_t c = 0; c < dk.size(); ++c) dk[c] += dk_part[c];
      for (std::size_t c = 0; c < dv.size(); ++c) dv[c] += dv_part[c];
    }
    for (std::size_t c = 0; leaves > 0 && c < dk.size(); ++c) dk[c] = tree(dk_leaves, c, 0, dk_leaves.size());
    for (std::size_t c = 0; leaves > 0 && c < dv.size(); ++c) dv[c] = tree(dv_leaves, c, 0, dv_leaves.size());
    const T scale = leaves > 0 ? T{1} : static_cast<T>(s.attention.scale);
    for (std::int64_t c = 0; c < s.Q; ++c) r.dk->as<X>()[(j * s.G + g) * s.Q + c] = static_cast<X>(dk[c] * scale);
    for (std::int64_t c = 0; c < s.V; ++c) r.dv->as<X>()[(j * s.G + g) * s.V + c] = static_cast<X>(dv[c]);
  }

  const AttentionScene& s;
  AttentionResult r;
};

}  // namespace fourmi::test
