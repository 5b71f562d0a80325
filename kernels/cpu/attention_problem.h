// What forward and backward of attention share: operands, ranges of keys, tiles of sixteen query rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "kernels/cpu/attention_chains.h"
#include "kernels/numerics/lanes.h"
#include "kernels/ops/attention.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi::attention {

template <class X>
struct Problem {
  using T = Accumulator<X>;
  const X *q, *k, *v;
  const std::int32_t *key_begin, *key_end;
  std::int64_t num_queries, num_keys, H, G, Q, V, block;
  T scale;
  Chains<T> chains;
  std::int64_t sequence;  ///< memory for a segment is that for so many keys at least
  std::int64_t query_leaves;
};

/// Checks shapes and ranges.
template <class X>
Problem<X> problem_of(const Stream& stream, const Attention& attention, const Tensor& q, const Tensor& k,
                      const Tensor& v, const Tensor& key_begin, const Tensor& key_end) {
  using T = Accumulator<X>;
  const Problem<X> p{q.as<X>(),
                     k.as<X>(),
                     v.as<X>(),
                     key_begin.as<std::int32_t>(),
                     key_end.as<std::int32_t>(),
                     q.dim(0),
                     k.dim(0),
                     q.dim(1),
                     k.dim(1),
                     q.dim(2),
                     v.dim(2),
                     attention.block,
                     static_cast<T>(attention.scale),
                     chains_of<T>(stream.isa()),
                     std::min(attention.sequence, k.dim(0)),
                     attention.query_leaves};
  FOURMI_CHECK(p.G > 0 && p.H % p.G == 0 && k.dim(2) == p.Q && v.dim(0) == p.num_keys && v.dim(1) == p.G,
               "q {}, k {}, v {}", to_string(q.shape), to_string(k.shape), to_string(v.shape));
  FOURMI_CHECK(p.block > 0, "blocks of {} rows", p.block);
  FOURMI_CHECK(key_begin.num_elements() == p.num_queries && key_end.num_elements() == p.num_queries,
               "{} and {} ranges for {} rows", key_begin.num_elements(), key_end.num_elements(), p.num_queries);
  for (std::int64_t i = 0; i < p.num_queries; ++i) {
    const std::int64_t begin = p.key_begin[i], end = p.key_end[i];
    FOURMI_CHECK(0 <= begin && begin <= end && end <= p.num_keys, "row {} attends to [{}, {}) of {} keys", i, begin,
                 end, p.num_keys);
    FOURMI_CHECK(i == 0 || (p.key_begin[i - 1] <= begin && p.key_end[i - 1] <= end), "the range of row {} decreases",
                 i);
  }
  return p;
}

constexpr std::int64_t padded(std::int64_t columns) {
  return (columns + lanes - 1) / lanes * lanes;
}

/// [begin, end) of keys; empty if begin >= end.
struct Keys {
  std::int64_t begin = std::numeric_limits<std::int64_t>::max(), end = 0;
  bool empty() const { return begin >= end; }
  void join(std::int64_t b, std::int64_t e) {
    if (b < e) begin = std::min(begin, b), end = std::max(end, e);
  }
  Keys within(std::int64_t b, std::int64_t e) const { return {std::max(begin, b), std::min(end, e)}; }
};

/// Up to sixteen query rows, one a lane. Lanes without a row see no key.
struct Tile {
  std::int64_t row = 0, num_rows = 0;
  Keys any;   ///< keys that some row sees
  Keys each;  ///< keys that all sixteen lanes see: no mask is needed
  std::int32_t begin[lanes], end[lanes];
};

template <class X>
Tile tile_of(const Problem<X>& p, std::int64_t row, std::int64_t num_rows) {
  Tile t{row, num_rows, {}, {0, std::numeric_limits<std::int64_t>::max()}, {}, {}};
  for (std::int64_t i = 0; i < lanes; ++i) {
    // Lanes beyond the last row repeat it, so that they need no mask; what they compute is dropped.
    const std::int64_t r = row + std::min(i, num_rows - 1);
    t.begin[i] = p.key_begin[r], t.end[i] = p.key_end[r];
    t.any.join(t.begin[i], t.end[i]);
    t.each = t.each.within(t.begin[i], t.end[i]);
  }
  return t;
}

/// Keys [begin, end) of one block as a tile sees them: a masked head, a middle that every lane sees, a masked tail.
struct Split {
  std::int64_t begin, full_begin, full_end, end;
};
inline Split split(const Tile& tile, std::int64_t block_begin, std::int64_t block_end) {
  const Keys any = tile.any.within(block_begin, block_end), each = tile.each.within(any.begin, any.end);
  if (any.empty()) return {block_begin, block_begin, block_begin, block_begin};
  if (each.empty()) return {any.begin, any.end, any.end, any.end};
  return {any.begin, each.begin, each.end, any.end};
}

/// mask[j - s.begin][lane] for the keys of the masked head and tail (the middle's words are not written).
template <class T>
FOURMI_INLINE void make_mask(const Tile& tile, const Split& s, MaskWord<T>* mask) {
  const auto rows = [&](std::int64_t begin, std::int64_t end) __attribute__((always_inline)) {
    for (std::int64_t j = begin; j < end; ++j) {
      MaskWord<T>* words = mask + (j - s.begin) * lanes;
      const auto key = static_cast<std::int32_t>(j);
      for (int l = 0; l < lanes; ++l)
        words[l] = (tile.begin[l] <= key) & (key < tile.end[l]) ? ~MaskWord<T>{0} : MaskWord<T>{0};
    }
  };
  rows(s.begin, s.full_begin);
  rows(s.full_end, s.end);
}

/// Adds steps over the keys of `s` to c: the chain's a and b start at key s.begin.
template <class T>
FOURMI_INLINE void add_over_keys(const Chains<T>& chains, Chain<T> chain, const Split& s, const MaskWord<T>* mask) {
  const T *a = chain.a, *b = chain.b;
  const auto part = [&](std::int64_t begin, std::int64_t end, bool masked) __attribute__((always_inline)) {
    if (begin == end) return;
    const std::int64_t skip = begin - s.begin;
    chain.a = a + skip * chain.a_step, chain.b = b + skip * chain.b_step, chain.steps = end - begin;
    masked ? chains.add_masked(chain, mask + skip * lanes) : chains.add(chain);
  };
  part(s.begin, s.full_begin, true);
  part(s.full_begin, s.full_end, false);
  part(s.full_end, s.end, true);
}

/// rows[lane][width] = x[lane][c], zero beyond `size`, for lanes without a row, and for rows that see no key (those may
/// hold anything). `stride` elements between rows of x; width is padded(size).
template <class X, class T>
FOURMI_INLINE void load_rows(const Tile& tile, const X* x, std::int64_t stride, std::int64_t size, T* rows) {
  const std::int64_t width = padded(size);
  for (std::int64_t l = 0; l < lanes; ++l) {
    T* row = rows + l * width;
    const std::int64_t n = l < tile.num_rows && tile.begin[l] < tile.end[l] ? size : 0;
    for (std::int64_t c = 0; c < n; ++c) row[c] = widen<T>(x[l * stride + c]);
    for (std::int64_t c = n; c < width; ++c) row[c] = T{0};
  }
}

/// From rows [lane][width] to columns [width][lane].
template <class T>
FOURMI_INLINE void to_columns(const Chains<T>& chains, const T* rows, std::int64_t width, T* columns) {
  for (std::int64_t c = 0; c < width; c += lanes) chains.transpose(rows + c, width, columns + c * lanes, lanes);
}

/// The way back, with the one rounding: x[lane][c] = columns[c][lane] * factor for the tile's rows. `rows` is scratch.
template <class X, class T>
FOURMI_INLINE void store_columns(const Chains<T>& chains, const Tile& tile, const T* columns, std::int64_t size,
                                 const T* factor, T* rows, X* x, std::int64_t stride) {
  const std::int64_t width = padded(size);
  for (std::int64_t c = 0; c < width; c += lanes) chains.transpose(columns + c * lanes, lanes, rows + c, width);
  for (std::int64_t l = 0; l < tile.num_rows; ++l)
    for (std::int64_t c = 0; c < size; ++c) x[l * stride + c] = narrow<X>(rows[l * width + c] * factor[l]);
}

/// Rows of keys or values in T: widened into `storage`, or where they are if they have that dtype.
template <class T>
struct Rows {
  const T* data;
  std::int64_t stride;
};
template <class X, class T>
FOURMI_INLINE Rows<T> rows_in(const X* x, std::int64_t stride, std::int64_t num_rows, std::int64_t size, T* storage) {
  if constexpr (std::is_same_v<X, T>) {
    return {x, stride};
  } else {
    for (std::int64_t r = 0; r < num_rows; ++r)
      for (std::int64_t c = 0; c < size; ++c) storage[r * size + c] = widen<T>(x[r * stride + c]);
    return {storage, size};
  }
}

/// A thread's memory for one operation.
class Scratch : public WorkingParts {
 public:
  explicit Scratch(std::int64_t num_bytes) : WorkingParts(WorkingUse::attention, num_bytes) {}
};

}  // namespace fourmi::attention
