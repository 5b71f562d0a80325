#include <cstring>

#include "kernels/cpu/attention_bf16.h"
#include "kernels/cpu/attention_doors.h"
#include "kernels/cpu/run_rows.h"

namespace fourmi::attention {
namespace {

constexpr std::int64_t tiles_per_item = 4;  // tiles that share a block's packed values

/// The running softmax of a tile.
struct State {
  Word* q;           // panel [words][lane]
  float* o;          // [lane][padded V], unnormalised
  float *max, *sum;  // [lane]
};

/// One block of keys of one tile: positions [from, to) of the block's rows are some row's keys.
struct Scores {
  std::int64_t block, from, to;
  std::int64_t full_from, full_to;  // positions that all rows see
  float* s;                         // [position][lane]: q k^T, then the probabilities
};

template <int L>
struct Softmax {
  /// s scale, or minus infinity where the lane's row does not see the key.
  template <bool masked>
  static FOURMI_INLINE float score(const WideTile& tile, std::int32_t key, float s, float scale, int l) {
    const float x = s * scale;
    if constexpr (!masked) return x;
    return (tile.begin[l] <= key) & (key < tile.end[l]) ? x : -std::numeric_limits<float>::infinity();
  }

  template <bool masked>
  static FOURMI_INLINE void maxima(const WideTile& tile, const Scores& b, std::int64_t from, std::int64_t to,
                                   float scale, float* most) {
    std::int64_t i = from;
    for (; i + 4 <= to; i += 4) {  // four rows share a load and a store of the maximum
      const float* row = b.s + i * tile_lanes;
      const auto key = static_cast<std::int32_t>(b.block + i);
#pragma GCC unroll 1
      for (int l = 0; l < L; ++l) {
        const float x0 = score<masked>(tile, key, row[l], scale, l),
                    x1 = score<masked>(tile, key + 1, row[tile_lanes + l], scale, l),
                    x2 = score<masked>(tile, key + 2, row[2 * tile_lanes + l], scale, l),
                    x3 = score<masked>(tile, key + 3, row[3 * tile_lanes + l], scale, l);
        float m = most[l];
        m = x0 > m ? x0 : m;
        m = x1 > m ? x1 : m;
        m = x2 > m ? x2 : m;
        most[l] = x3 > m ? x3 : m;
      }
    }
    for (; i < to; ++i)
#pragma GCC unroll 1
      for (int l = 0; l < L; ++l) {
        const float x = score<masked>(tile, static_cast<std::int32_t>(b.block + i), b.s[i * tile_lanes + l], scale, l);
        most[l] = x > most[l] ? x : most[l];
      }
  }

  /// Row i becomes probabilities, which are added to sum.
  template <bool masked>
  static FOURMI_INLINE void row(const WideTile& tile, const Scores& b, std::int64_t i, float scale, const float* shift,
                                float* __restrict sum) {
    float* __restrict s = b.s + i * tile_lanes;
    const auto key = static_cast<std::int32_t>(b.block + i);
#pragma GCC unroll 1
    for (int l = 0; l < L; ++l) {
      const float p = exp(score<masked>(tile, key, s[l], scale, l) - shift[l]);
      s[l] = p;
      sum[l] += p;
    }
  }

  /// Updates the tile's maximum and denominator; `rescale` is what the output has to be multiplied by.
  static FOURMI_INLINE void run(const WideTile& tile, const Scores& b, float scale, const State& state,
                                float* rescale) {
    float most[L], shift[L], part[lanes][L] = {};
    for (int l = 0; l < L; ++l) most[l] = state.max[l];
    maxima<true>(tile, b, b.from, b.full_from, scale, most);
    maxima<false>(tile, b, b.full_from, b.full_to, scale, most);
    maxima<true>(tile, b, b.full_to, b.to, scale, most);
    for (int l = 0; l < L; ++l) {
      shift[l] = most[l] == -std::numeric_limits<float>::infinity() ? 0.0F : most[l];
      rescale[l] = exp(state.max[l] - shift[l]);
      state.max[l] = most[l];
    }
    for (std::int64_t i = b.from; i < b.full_from; ++i) row<true>(tile, b, i, scale, shift, part[i % lanes]);
    for (std::int64_t i = b.full_from; i < b.full_to; ++i) row<false>(tile, b, i, scale, shift, part[i % lanes]);
    for (std::int64_t i = b.full_to; i < b.to; ++i) row<true>(tile, b, i, scale, shift, part[i % lanes]);
    for (int half = lanes / 2; half > 0; half /= 2)  // the lane sum over keys, for all rows side by side
      for (int i = 0; i < half; ++i)
        for (int l = 0; l < L; ++l) part[i][l] += part[i + half][l];
    for (int l = 0; l < L; ++l) state.sum[l] = fma(state.sum[l], rescale[l], part[0][l]);
  }
};

/// Items are (head, group of tiles): all sums of a row are made by one item.
struct Bf16Forward {
  Bf16Problem p;
  PairKernels kernels;
  Bf16Result o;
  float* lse;

  FOURMI_INLINE std::int64_t q_words() const { return padded_words(p.Q); }
  FOURMI_INLINE std::int64_t v_width() const { return padded(p.V); }
  FOURMI_INLINE std::int64_t block_pairs() const { return divide_up(p.block, 2); }

  FOURMI_INLINE std::int64_t scratch_bytes() const {
    return tiles_per_item * (Scratch::bytes<Word>(q_words() * tile_lanes) +
                             Scratch::bytes<float>(v_width() * tile_lanes) + 2 * Scratch::bytes<float>(tile_lanes)) +
           Scratch::bytes<Word>(q_words() * tile_lanes) + Scratch::bytes<Word>(p.block * divide_up(p.Q, 2)) +
           Scratch::bytes<Word>(block_pairs() * v_width()) + Scratch::bytes<float>(p.block * tile_lanes) +
           Scratch::bytes<Word>(block_pairs() * tile_lanes);
  }

  FOURMI_INLINE void start(const WideTile& tile, std::int64_t head, const State& state, Word* rows) const {
    load_wide_rows(tile, p.q + (tile.row * p.H + head) * p.Q, p.H * p.Q, p.Q, rows, q_words());
    to_panel(p.chains, rows, q_words(), tile.vectors, state.q);
    std::fill_n(state.o, v_width() * tile_lanes, 0.0F);
    std::fill_n(state.sum, tile_lanes, 0.0F);
    std::fill_n(state.max, tile_lanes, -std::numeric_limits<float>::infinity());
  }

  FOURMI_INLINE void store(const WideTile& tile, std::int64_t head, const State& state) const {
    float inverse[tile_lanes], log_sum[tile_lanes];
    for (int l = 0; l < tile_lanes; ++l) {
      inverse[l] = state.sum[l] == 0 ? 0.0F : 1.0F / state.sum[l];
      log_sum[l] = state.max[l] + log(state.sum[l]);
    }
    for (std::int64_t l = 0; l < tile.num_rows; ++l) {
      o.put<false>(((tile.row + l) * p.H + head) * p.V, state.o + l * v_width(), p.V, inverse[l]);
      lse[(tile.row + l) * p.H + head] = log_sum[l];
    }
  }

  /// The probabilities as pairs of keys [pair][lane], then o = o rescale + p v.
  FOURMI_INLINE void add_values(const WideTile& tile, const Scores& b, const Word* v_pairs, const float* rescale,
                                const State& state, Word* p_pairs) const {
    for (std::int64_t i = b.from / 2 * 2; i < b.to; i += 2)
      kernels.round({i >= b.from ? b.s + i * tile_lanes : nullptr, i + 1 < b.to ? b.s + (i + 1) * tile_lanes : nullptr,
                     tile.vectors, nullptr, nullptr, p_pairs + i / 2 * tile_lanes});
    for (std::int64_t l = 0; l < tile.num_rows; l += lanes) {
      const std::int64_t n = std::min(lanes, tile.num_rows - l);
      const Keys keys = Keys{tile.begin[l], tile.end[l + n - 1]}.within(b.block + b.from, b.block + b.to);
      if (keys.empty()) continue;
      const std::int64_t pair = (keys.begin - b.block) / 2, steps = divide_up(keys.end - b.block, 2) - pair;
      kernels.multiply({p_pairs + pair * tile_lanes + l, 1, tile_lanes, v_pairs + pair * v_width(), v_width(), steps,
                        state.o + l * v_width(), v_width(), n, v_width() / lanes, Finish::rescale_and_add,
                        rescale + l});
    }
  }

  FOURMI_INLINE void item(std::int64_t head, std::int64_t row, Scratch scratch) const {
    WideTile tiles[tiles_per_item];
    State states[tiles_per_item];
    Keys any;
    Word* rows = scratch.take<Word>(q_words() * tile_lanes);
    int num_tiles = 0;
    for (; num_tiles < tiles_per_item && row < p.num_queries; ++num_tiles, row += tile_lanes) {
      tiles[num_tiles] = wide_tile(p, row, std::min(tile_lanes, p.num_queries - row));
      states[num_tiles] = {scratch.take<Word>(q_words() * tile_lanes), scratch.take<float>(v_width() * tile_lanes),
                           scratch.take<float>(tile_lanes), scratch.take<float>(tile_lanes)};
      start(tiles[num_tiles], head, states[num_tiles], rows);
      any.join(tiles[num_tiles].any.begin, tiles[num_tiles].any.end);
    }
    Word* k_storage = scratch.take<Word>(p.block * divide_up(p.Q, 2));
    Word* v_pairs = scratch.take<Word>(block_pairs() * v_width());
    float* s = scratch.take<float>(p.block * tile_lanes);
    Word* p_pairs = scratch.take<Word>(block_pairs() * tile_lanes);
    const std::int64_t group = head / (p.H / p.G);
    for (std::int64_t block = any.empty() ? 0 : any.begin / p.block * p.block; block < any.end; block += p.block) {
      const Keys here = any.within(block, block + p.block);
      const WordRows k =
          word_rows(p.k + (here.begin * p.G + group) * p.Q, p.G * p.Q, here.end - here.begin, p.Q, k_storage);
      pair_rows(p.v + (block * p.G + group) * p.V, p.G * p.V, here.end - block, {here.begin - block, here.end - block},
                p.V, v_pairs, v_width());
      for (int t = 0; t < num_tiles; ++t) {
        const WideTile& tile = tiles[t];
        const Keys seen = tile.any.within(block, block + p.block), full = tile.each.within(seen.begin, seen.end);
        if (seen.empty()) continue;
        const std::int64_t from = seen.begin - block, to = seen.end - block;
        const Scores b{block, from, to, full.empty() ? to : full.begin - block, full.empty() ? to : full.end - block,
                       s};
        const WordRows first{k.data + (seen.begin - here.begin) * k.stride, k.stride};
        products_with_keys(kernels, tile, {seen.begin, seen.end}, seen.begin, first, states[t].q, p.Q,
                           s + from * tile_lanes);
        float rescale[tile_lanes];
        if (tile.vectors == 1)
          Softmax<lanes>::run(tile, b, p.scale, states[t], rescale);
        else
          Softmax<tile_lanes>::run(tile, b, p.scale, states[t], rescale);
        add_values(tile, b, v_pairs, rescale, states[t], p_pairs);
      }
    }
    for (int t = 0; t < num_tiles; ++t) store(tiles[t], head, states[t]);
  }

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    const Scratch scratch(scratch_bytes());
    for (std::int64_t i = begin; i < end; ++i) item(i % p.H, i / p.H * tiles_per_item * tile_lanes, scratch);
  }
};

}  // namespace

void forward_bf16(const Stream& stream, const Bf16Problem& p, const Bf16Result& o, float* lse) {
  const std::int64_t rows_per_item = tiles_per_item * tile_lanes;
  run_rows(stream, divide_up(p.num_queries, rows_per_item) * p.H, 1,
           Bf16Forward{p, pair_kernels(stream.isa()), o, lse});
}

}  // namespace fourmi::attention
