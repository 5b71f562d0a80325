// What forward and backward of attention in bf16 share: tiles of up to 64 query rows, one a lane, and operands packed
// into pairs. Scores are [key][lane], so that softmax runs down the lanes; every inner product is a PairProduct.
#pragma once

#include <cstring>

#include "kernels/cpu/attention_pairs.h"
#include "kernels/cpu/attention_problem.h"

namespace fourmi::attention {

using Bf16Problem = Problem<bfloat16>;

constexpr std::int64_t divide_up(std::int64_t n, std::int64_t d) {
  return (n + d - 1) / d;
}
/// Words that hold n elements of a row, in whole vectors.
constexpr std::int64_t padded_words(std::int64_t n) {
  return padded(divide_up(n, 2));
}

/// [begin, end), empty if begin >= end.
struct Range {
  std::int64_t begin, end;
  bool empty() const { return begin >= end; }
};

struct WideTile {
  std::int64_t row = 0, num_rows = 0;
  std::int64_t vectors = 0;  ///< of sixteen lanes
  Keys any;                  ///< keys that some row sees
  Keys each;                 ///< keys that all rows see: no mask is needed
  std::int32_t begin[tile_lanes], end[tile_lanes];

  /// Lanes that may see one of the keys: rows' ranges never decrease.
  Range lanes_of(std::int64_t key_begin, std::int64_t key_end) const {
    const auto* first = std::upper_bound(end, end + num_rows, static_cast<std::int32_t>(key_begin));
    const auto* last = std::lower_bound(begin, begin + num_rows, static_cast<std::int32_t>(key_end));
    return {first - end, last - begin};
  }
};

inline WideTile wide_tile(const Bf16Problem& p, std::int64_t row, std::int64_t num_rows) {
  WideTile t;
  t.row = row, t.num_rows = num_rows, t.vectors = divide_up(num_rows, lanes);
  t.each = {0, std::numeric_limits<std::int64_t>::max()};
  for (std::int64_t l = 0; l < tile_lanes; ++l) {
    const std::int64_t r = row + std::min(l, num_rows - 1);  // lanes without a row repeat the last one and are dropped
    t.begin[l] = p.key_begin[r], t.end[l] = p.key_end[r];
    t.any.join(t.begin[l], t.end[l]);
    t.each = t.each.within(t.begin[l], t.end[l]);
  }
  return t;
}

/// rows[lane][stride words], zero beyond `size` elements, in lanes without a row and in rows that see no key.
FOURMI_INLINE void load_wide_rows(const WideTile& tile, const bfloat16* x, std::int64_t x_stride, std::int64_t size,
                                  Word* rows, std::int64_t stride) {
  for (std::int64_t l = 0; l < tile.vectors * lanes; ++l) {
    auto* row = reinterpret_cast<bfloat16*>(rows + l * stride);
    const std::int64_t n = l < tile.num_rows && tile.begin[l] < tile.end[l] ? size : 0;
    std::memcpy(row, x + l * x_stride, static_cast<std::size_t>(n) * sizeof(bfloat16));
    std::fill_n(row + n, 2 * stride - n, bfloat16{});
  }
}

/// From rows [lane][words] to a panel [words][64 lanes].
inline void to_panel(const Chains<float>& chains, const Word* rows, std::int64_t words, std::int64_t vectors,
                     Word* panel) {
  // Words travel as floats: they are only moved.
  const auto* in = reinterpret_cast<const float*>(rows);
  auto* out = reinterpret_cast<float*>(panel);
  for (std::int64_t v = 0; v < vectors; ++v)
    for (std::int64_t c = 0; c < words; c += lanes)
      chains.transpose(in + v * lanes * words + c, words, out + c * tile_lanes + v * lanes, tile_lanes);
}

/// pairs[i / 2][width] of rows i in [0, n): word c holds (x[i][c], x[i + 1][c]). Rows outside `present` are zero.
FOURMI_INLINE void pair_rows(const bfloat16* x, std::int64_t stride, std::int64_t n, Range present, std::int64_t size,
                             Word* pairs, std::int64_t width) {
  for (std::int64_t i = 0; i < n; i += 2, pairs += width) {
    const bool even = present.begin <= i && i < present.end, odd = present.begin <= i + 1 && i + 1 < present.end;
    const bfloat16 *low = x + i * stride, *high = low + stride;
    if (even && odd) {
      for (std::int64_t c = 0; c < size; ++c) pairs[c] = low[c].bits | static_cast<Word>(high[c].bits) << 16;
    } else {
      for (std::int64_t c = 0; c < size; ++c)
        pairs[c] = (even ? low[c].bits : 0U) | (odd ? static_cast<Word>(high[c].bits) << 16 : 0U);
    }
    std::fill_n(pairs + size, width - size, Word{0});
  }
}

/// Rows of words to be read in place: of x itself where they are whole words, else of a copy padded with zeros.
struct WordRows {
  const Word* data;
  std::int64_t stride;
};
FOURMI_INLINE WordRows word_rows(const bfloat16* x, std::int64_t stride, std::int64_t n, std::int64_t size,
                                 Word* storage) {
  if (size % 2 == 0 && stride % 2 == 0 && reinterpret_cast<std::uintptr_t>(x) % sizeof(Word) == 0)
    return {reinterpret_cast<const Word*>(x), stride / 2};
  const std::int64_t words = divide_up(size, 2);
  for (std::int64_t r = 0; r < n; ++r) {
    auto* row = reinterpret_cast<bfloat16*>(storage + r * words);
    std::memcpy(row, x + r * stride, static_cast<std::size_t>(size) * sizeof(bfloat16));
    if (size % 2 != 0) row[size] = bfloat16{};
  }
  return {storage, words};
}

/// c[key - first][lane] = chains over `size` elements of key rows and a tile's panel, for the keys of `keys`, sixteen
/// at a time; lanes that see none of the sixteen are left unwritten. x.data is the row of key `first`.
inline void products_with_keys(const PairKernels& kernels, const WideTile& tile, Range keys, std::int64_t first,
                               const WordRows& x, const Word* panel, std::int64_t size, float* c) {
  for (std::int64_t k = keys.begin; k < keys.end; k += lanes) {
    const std::int64_t n = std::min(lanes, keys.end - k);
    const Range seen = tile.lanes_of(k, k + n);
    if (seen.empty()) continue;
    const std::int64_t vector = seen.begin / lanes, at = k - first;
    kernels.multiply({x.data + at * x.stride, x.stride, 1, panel + vector * lanes, tile_lanes, divide_up(size, 2),
                      c + at * tile_lanes + vector * lanes, tile_lanes, n, divide_up(seen.end, lanes) - vector,
                      Finish::store});
  }
}

}  // namespace fourmi::attention
