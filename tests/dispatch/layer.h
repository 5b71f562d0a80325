// A layer of linear experts to send tokens through, in any float type: computed by brute force where all experts are at
// hand, and by ranks through a dispatcher. Every number is formed by the same operations in both, so they are equal to
// the bit, or a row went astray.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "kernels/numerics/lanes.h"
#include "kernels/numerics/math.h"
#include "kernels/numerics/mix.h"
#include "parallel/dispatch/dispatcher.h"

namespace fourmi::testing {

struct Layer {
  std::int64_t E = 16, K = 4, D = 24;
  std::vector<std::int64_t> tokens;  ///< of each rank
  unsigned seed = 1;
  std::int64_t num_leaves = 8;  ///< of experts, whatever the ranks (numerics.md L6)
  /// Experts of token t of a rank, ascending; empty: random ones.
  std::function<std::vector<std::int32_t>(int rank, std::int64_t t)> choose = {};

  std::int64_t most_tokens() const {
    return std::max<std::int64_t>(1, *std::max_element(tokens.begin(), tokens.end()));
  }
  std::uint64_t bits(int rank, std::int64_t t, std::int64_t i, unsigned purpose) const {
    return mix64(mix64(mix64(seed * 1000u + purpose) + static_cast<std::uint64_t>(rank) * 1'000'003u +
                       static_cast<std::uint64_t>(t)) +
                 static_cast<std::uint64_t>(i));
  }
  /// In [-1, 1), never a short binary fraction.
  double value(int rank, std::int64_t t, std::int64_t i, unsigned purpose) const {
    return static_cast<double>(bits(rank, t, i, purpose) >> 11) * 0x1p-52 - 1;
  }
  std::vector<std::int32_t> experts(int rank, std::int64_t t) const {
    if (choose) return choose(rank, t);
    std::set<std::int32_t> chosen;
    for (std::int64_t i = 0; static_cast<std::int64_t>(chosen.size()) < K; ++i)
      chosen.insert(static_cast<std::int32_t>(bits(rank, t, i, 9) % static_cast<std::uint64_t>(E)));
    return {chosen.begin(), chosen.end()};
  }
};

template <class T>
struct Rows {  // of tokens or arrivals
  std::vector<T> x;
  std::int64_t D = 0;
  Tensor tensor() { return {x.data(), dtype_of<T>, {static_cast<std::int64_t>(x.size()) / D, D}}; }
};

template <class T>
Rows<T> make_rows(const Layer& l, int rank, std::int64_t width, unsigned purpose) {
  Rows<T> r{{}, width};
  for (std::int64_t t = 0; t < l.tokens[static_cast<std::size_t>(rank)]; ++t)
    for (std::int64_t d = 0; d < width; ++d)
      r.x.push_back(narrow<T>(static_cast<Accumulator<T>>(l.value(rank, t, d, purpose))));
  return r;
}

/// Expert e: out[d] = a x[d] + b x[d + 1]. Its transpose for the gradient.
template <class A, class T>
std::vector<A> apply(std::int64_t e, const T* x, std::int64_t D, bool transposed = false) {
  const A a = A(1) / static_cast<A>(e + 3), b = A(1) / static_cast<A>(2 * e + 5);
  std::vector<A> out(static_cast<std::size_t>(D));
  for (std::int64_t d = 0; d < D; ++d)
    out[static_cast<std::size_t>(d)] = a * widen<A>(x[d]) + b * widen<A>(x[(d + (transposed ? D - 1 : 1)) % D]);
  return out;
}

/// The tree over leaves [first, first + n) of what `chain` adds to zeros for a leaf.
template <class A>
std::vector<A> tree(std::int64_t first, std::int64_t n, std::int64_t D,
                    const std::function<void(std::int64_t, std::vector<A>&)>& chain) {
  std::vector<A> sum(static_cast<std::size_t>(D), A{0});
  if (n == 1) {
    chain(first, sum);
    return sum;
  }
  sum = tree<A>(first, n / 2, D, chain);
  const std::vector<A> right = tree<A>(first + n / 2, n / 2, D, chain);
  for (std::size_t d = 0; d < sum.size(); ++d) sum[d] += right[d];
  return sum;
}

/// A token's sum over the experts of some leaves: weights times outputs of x (forward), or transposed experts of
/// weights times x (backward, where x is dy).
template <class T>
std::vector<Accumulator<T>> token_sum(const Layer& l, std::int64_t first_leaf, std::int64_t leaves,
                                      const std::vector<std::int64_t>& experts,
                                      const std::vector<Accumulator<T>>& weights, const T* x, bool backward) {
  using A = Accumulator<T>;
  const std::int64_t each = l.E / l.num_leaves;
  return tree<A>(first_leaf, leaves, l.D, [&](std::int64_t leaf, std::vector<A>& sum) {
    for (std::size_t k = 0; k < experts.size(); ++k) {
      if (experts[k] < 0 || experts[k] / each != leaf) continue;
      const std::vector<A> out = apply<A>(experts[k], x, l.D, backward);
      for (std::size_t d = 0; d < sum.size(); ++d) sum[d] = fma(weights[k], out[d], sum[d]);
    }
  });
}

template <class T>
Accumulator<T> weight_gradient(const Layer& l, std::int64_t expert, const T* x, const T* dy) {
  using A = Accumulator<T>;
  const std::vector<A> out = apply<A>(expert, x, l.D);
  A sum = 0;
  for (std::int64_t d = 0; d < l.D; ++d) sum = fma(widen<A>(dy[d]), out[static_cast<std::size_t>(d)], sum);
  return sum;
}

/// What the layer gives the tokens of one rank.
template <class T>
struct Outcome {
  std::vector<T> y, dx;
  std::vector<Accumulator<T>> dweights;
  DispatchTraffic forward, all;
  DispatchLoad load;
  std::int64_t group_bytes = 0, most_choices = 0;  ///< most_choices: computed in a round
  bool operator==(const Outcome& o) const {
    const auto same = [](const auto& a, const auto& b) {
      return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0);
    };
    return same(y, o.y) && same(dx, o.dx) && same(dweights, o.dweights);
  }
};

enum Purpose : unsigned { of_x = 1, of_residual, of_weights, of_dy, of_first, of_second };

template <class T>
Outcome<T> brute_force(const Layer& l, int rank) {
  using A = Accumulator<T>;
  const Rows<T> x = make_rows<T>(l, rank, l.D, of_x), residual = make_rows<T>(l, rank, l.D, of_residual),
                dy = make_rows<T>(l, rank, l.D, of_dy), first = make_rows<T>(l, rank, l.D, of_first);
  const Rows<A> weights = make_rows<A>(l, rank, l.K, of_weights), second = make_rows<A>(l, rank, l.D, of_second);
  Outcome<T> o;
  for (std::int64_t t = 0; t < l.tokens[static_cast<std::size_t>(rank)]; ++t) {
    const auto ids = l.experts(rank, t);
    const std::vector<std::int64_t> experts(ids.begin(), ids.end());
    const auto at = static_cast<std::size_t>(t * l.D);
    const std::vector<A> w(weights.x.begin() + t * l.K, weights.x.begin() + (t + 1) * l.K);
    const auto y = token_sum<T>(l, 0, l.num_leaves, experts, w, &x.x[at], false);
    const auto dx = token_sum<T>(l, 0, l.num_leaves, experts, w, &dy.x[at], true);
    for (std::size_t d = 0; d < y.size(); ++d) {
      o.y.push_back(narrow<T>(y[d] + widen<A>(residual.x[at + d])));
      o.dx.push_back(narrow<T>(dx[d] + widen<A>(first.x[at + d]) + second.x[at + d]));
    }
    for (const std::int64_t e : experts) o.dweights.push_back(weight_gradient(l, e, &x.x[at], &dy.x[at]));
  }
  return o;
}

/// Memory for one list of fields, filled with NaN before each use.
class Poisoned {
 public:
  auto visitor() {
    return [this](Tensor& tensor, const char*, Shape shape, DType dtype) {
      storage_.emplace_back(static_cast<std::size_t>(bytes_of(dtype, shape)) + 64);
      tensor = Tensor(storage_.back().data(), dtype, shape);
      fill();
    };
  }
  void fill() {
    for (auto& s : storage_) std::fill(s.begin(), s.end(), std::byte{0xff});
  }

 private:
  std::vector<std::vector<std::byte>> storage_;
};

}  // namespace fourmi::testing
