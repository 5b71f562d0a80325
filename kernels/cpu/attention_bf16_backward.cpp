#include "kernels/cpu/attention_doors.h"
#include "kernels/cpu/run_rows.h"

namespace fourmi::attention {
namespace {

/// What a tile of query rows of one head needs while it passes over the blocks of keys.
struct TileData {
  Word *q_panel, *do_panel;  // [words][lane]
  Word *q_pairs, *do_pairs;  // pairs of rows: [lane / 2][padded Q or V]
  float* dq;                 // [lane][padded Q]
  float *lse, *delta;        // [lane]
};

/// Memory of one item, carved from the thread's scratch.
struct Buffers {
  Word* rows;                  // [lane][words of Q or V], while a tile is prepared
  Word *k, *v;                 // a block's keys and values, where they cannot be read in place
  Word* k_pairs;               // pairs of keys of the whole segment: [block][pair][padded Q]
  float *s, *dp;               // [key][lane]
  Word *p_rows, *ds_rows;      // rounded: [key][lanes, two a word]
  Word* ds_pairs;              // rounded: [pair of keys][lane]
  float *dk_part, *dv_part;    // [query blocks of a span][keys of a block][padded Q or V]
  float *dk_total, *dv_total;  // [levels of the tree][keys of the segment][padded Q or V]
};

/// Items are (segment, key/value head): every sum that they make is whole.
struct Bf16Backward {
  Bf16Problem p;
  PairKernels kernels;
  BackwardOperands x;
  const Segment* segments;
  std::int64_t max_keys;  // the most keys of a segment

  FOURMI_INLINE std::int64_t q_width() const { return padded(p.Q); }
  FOURMI_INLINE std::int64_t v_width() const { return padded(p.V); }
  FOURMI_INLINE std::int64_t heads_per_group() const { return p.H / p.G; }
  FOURMI_INLINE std::int64_t block_pairs() const { return divide_up(p.block, 2); }
  /// Rows of a span: whole query blocks in one tile (each from an even lane), or one query block in several tiles.
  FOURMI_INLINE std::int64_t span_size() const {
    if (p.block > tile_lanes || p.block % 2 != 0) return p.block;
    return blocks_of_span(tile_lanes / p.block, p.query_leaves) * p.block;
  }
  FOURMI_INLINE std::int64_t tiles_per_span() const { return divide_up(span_size(), tile_lanes); }
  FOURMI_INLINE std::int64_t parts_per_span() const { return span_size() / p.block; }
  /// Is a query block's partial made by one product, so that it can be added to the total at once?
  FOURMI_INLINE bool whole_parts() const {
    return heads_per_group() == 1 && tiles_per_span() == 1 && p.query_leaves == 0;
  }
  /// Nodes of the tree over query blocks that are kept at once.
  FOURMI_INLINE std::int64_t num_nodes() const { return 1 + tree_levels(p.query_leaves / parts_per_span()); }
  FOURMI_INLINE std::int64_t max_blocks() const { return divide_up(max_keys, p.block) + 1; }

  FOURMI_INLINE std::int64_t scratch_bytes() const {
    const std::int64_t q_panel = padded_words(p.Q) * tile_lanes, v_panel = padded_words(p.V) * tile_lanes;
    const std::int64_t tile = Scratch::bytes<Word>(q_panel) + Scratch::bytes<Word>(v_panel) +
                              Scratch::bytes<Word>(tile_lanes / 2 * q_width()) +
                              Scratch::bytes<Word>(tile_lanes / 2 * v_width()) +
                              Scratch::bytes<float>(tile_lanes * q_width()) + 2 * Scratch::bytes<float>(tile_lanes);
    return heads_per_group() * tiles_per_span() * tile + Scratch::bytes<Word>(std::max(q_panel, v_panel)) +
           Scratch::bytes<Word>(p.block * divide_up(p.Q, 2)) + Scratch::bytes<Word>(p.block * divide_up(p.V, 2)) +
           Scratch::bytes<Word>(max_blocks() * block_pairs() * q_width()) +
           2 * Scratch::bytes<float>(p.block * tile_lanes) + 2 * Scratch::bytes<Word>(p.block * tile_lanes / 2) +
           Scratch::bytes<Word>(block_pairs() * tile_lanes) +
           Scratch::bytes<float>(parts_per_span() * p.block * q_width()) +
           Scratch::bytes<float>(parts_per_span() * p.block * v_width()) +
           Scratch::bytes<float>(num_nodes() * max_keys * q_width()) +
           Scratch::bytes<float>(num_nodes() * max_keys * v_width());
  }
  FOURMI_INLINE Buffers take_buffers(Scratch& scratch) const {
    return {scratch.take<Word>(std::max(padded_words(p.Q), padded_words(p.V)) * tile_lanes),
            scratch.take<Word>(p.block * divide_up(p.Q, 2)),
            scratch.take<Word>(p.block * divide_up(p.V, 2)),
            scratch.take<Word>(max_blocks() * block_pairs() * q_width()),
            scratch.take<float>(p.block * tile_lanes),
            scratch.take<float>(p.block * tile_lanes),
            scratch.take<Word>(p.block * tile_lanes / 2),
            scratch.take<Word>(p.block * tile_lanes / 2),
            scratch.take<Word>(block_pairs() * tile_lanes),
            scratch.take<float>(parts_per_span() * p.block * q_width()),
            scratch.take<float>(parts_per_span() * p.block * v_width()),
            scratch.take<float>(num_nodes() * max_keys * q_width()),
            scratch.take<float>(num_nodes() * max_keys * v_width())};
  }
  FOURMI_INLINE TileData take_tile(Scratch& scratch) const {
    return {scratch.take<Word>(padded_words(p.Q) * tile_lanes),
            scratch.take<Word>(padded_words(p.V) * tile_lanes),
            scratch.take<Word>(tile_lanes / 2 * q_width()),
            scratch.take<Word>(tile_lanes / 2 * v_width()),
            scratch.take<float>(tile_lanes * q_width()),
            scratch.take<float>(tile_lanes),
            scratch.take<float>(tile_lanes)};
  }

  /// One operand of a tile as panel and as pairs of rows.
  FOURMI_INLINE void pack(const WideTile& tile, const bfloat16* rows, std::int64_t stride, std::int64_t size,
                          const Buffers& b, Word* panel, Word* pairs) const {
    const std::int64_t words = padded_words(size);
    load_wide_rows(tile, rows, stride, size, b.rows, words);
    to_panel(p.chains, b.rows, words, tile.vectors, panel);
    pair_rows(reinterpret_cast<const bfloat16*>(b.rows), 2 * words, tile.vectors * lanes, {0, tile.vectors * lanes},
              size, pairs, padded(size));
  }

  FOURMI_INLINE void prepare(const WideTile& tile, std::int64_t head, const Buffers& b, const TileData& data) const {
    const bfloat16* do0 = x.d_o + (tile.row * p.H + head) * p.V;
    const bfloat16* o0 = x.o + (tile.row * p.H + head) * p.V;
    pack(tile, p.q + (tile.row * p.H + head) * p.Q, p.H * p.Q, p.Q, b, data.q_panel, data.q_pairs);
    pack(tile, do0, p.H * p.V, p.V, b, data.do_panel, data.do_pairs);
    std::fill_n(data.dq, q_width() * tile_lanes, 0.0F);
    for (std::int64_t l = 0; l < tile_lanes; ++l) {
      const bool used = l < tile.num_rows;
      data.lse[l] = used ? x.lse[(tile.row + l) * p.H + head] : 0.0F;
      data.delta[l] = used ? lane_dot<float>(do0 + l * p.H * p.V, o0 + l * p.H * p.V, p.V) : 0.0F;
    }
  }

  /// From q k^T and dp (both [key][lane]) to probabilities and ds, zero outside of the mask. Position i of the block is
  /// row i of s and dp.
  template <bool masked, int L>
  FOURMI_INLINE void probabilities(const WideTile& tile, std::int64_t block, std::int64_t from, std::int64_t to,
                                   const TileData& data, const Buffers& b) const {
    const float scale = p.scale;
    const float *lse = data.lse, *delta = data.delta;
    for (std::int64_t i = from; i < to; ++i) {
      float* __restrict s = b.s + i * tile_lanes;
      float* __restrict dp = b.dp + i * tile_lanes;
      const auto key = static_cast<std::int32_t>(block + i);
#pragma GCC unroll 1
      for (int l = 0; l < L; ++l) {
        const float e = exp(s[l] * scale - lse[l]), d = e * (dp[l] - delta[l]);
        const bool seen = !masked || ((tile.begin[l] <= key) & (key < tile.end[l]));
        s[l] = seen ? e : 0.0F;
        dp[l] = seen ? d : 0.0F;
      }
    }
  }
  template <bool masked>
  FOURMI_INLINE void probabilities(const WideTile& tile, std::int64_t block, std::int64_t from, std::int64_t to,
                                   const TileData& data, const Buffers& b) const {
    if (tile.vectors == 1)
      probabilities<masked, lanes>(tile, block, from, to, data, b);
    else
      probabilities<masked, tile_lanes>(tile, block, from, to, data, b);
  }

  /// c[key][width] += for keys [k, k + n) the sum over lanes [l.begin, l.end) of w_rows[key][lane] pairs[lane / 2].
  FOURMI_INLINE void add_part(const Word* w_rows, const Word* pairs, std::int64_t width, Range l, std::int64_t n,
                              Finish finish, float* c) const {
    const std::int64_t pair = l.begin / 2, steps = divide_up(l.end, 2) - pair;
    kernels.multiply(
        {w_rows + pair, tile_lanes / 2, 1, pairs + pair * width, width, steps, c, width, n, width / lanes, finish});
  }

  /// One block of keys against one tile of one head. k and v start at key `first`, dk_total and dv_total at `base`.
  FOURMI_INLINE void tile_block(const WideTile& tile, const TileData& data, std::int64_t block, std::int64_t first,
                                const WordRows& k, const WordRows& v, const Word* k_pairs, std::int64_t span_row,
                                std::int64_t base, const Buffers& b) const {
    const Keys seen = tile.any.within(block, block + p.block), each = tile.each.within(seen.begin, seen.end);
    const Keys full = each.empty() ? Keys{seen.end, seen.end} : each;
    const std::int64_t from = seen.begin - block, to = seen.end - block;
    const WordRows k0{k.data + (seen.begin - first) * k.stride, k.stride};
    const WordRows v0{v.data + (seen.begin - first) * v.stride, v.stride};
    const Range keys{seen.begin, seen.end};
    products_with_keys(kernels, tile, keys, seen.begin, k0, data.q_panel, p.Q, b.s + from * tile_lanes);
    products_with_keys(kernels, tile, keys, seen.begin, v0, data.do_panel, p.V, b.dp + from * tile_lanes);
    probabilities<true>(tile, block, from, full.begin - block, data, b);
    probabilities<false>(tile, block, full.begin - block, full.end - block, data, b);
    probabilities<true>(tile, block, full.end - block, to, data, b);
    for (std::int64_t i = from / 2 * 2; i < to; i += 2) {
      const bool even = i >= from, odd = i + 1 < to;
      const std::int64_t at = i * tile_lanes, next = at + tile_lanes, half = tile_lanes / 2;
      kernels.round({even ? b.s + at : nullptr, odd ? b.s + next : nullptr, tile.vectors,
                     even ? b.p_rows + i * half : nullptr, odd ? b.p_rows + (i + 1) * half : nullptr, nullptr});
      kernels.round({even ? b.dp + at : nullptr, odd ? b.dp + next : nullptr, tile.vectors,
                     even ? b.ds_rows + i * half : nullptr, odd ? b.ds_rows + (i + 1) * half : nullptr,
                     b.ds_pairs + at / 2});
    }
    for (std::int64_t l = 0; l < tile.num_rows; l += lanes) {  // dq: sixteen rows over the keys that one of them sees
      const std::int64_t n = std::min(lanes, tile.num_rows - l);
      const Keys here = Keys{tile.begin[l], tile.end[l + n - 1]}.within(seen.begin, seen.end);
      if (here.empty()) continue;
      const std::int64_t pair = (here.begin - block) / 2, steps = divide_up(here.end - block, 2) - pair;
      kernels.multiply({b.ds_pairs + pair * tile_lanes + l, 1, tile_lanes, k_pairs + pair * q_width(), q_width(), steps,
                        data.dq + l * q_width(), q_width(), n, q_width() / lanes, Finish::go_on});
    }
    // dk and dv: sixteen keys over the rows of each query block that see one of them. Each query block has its partial.
    for (std::int64_t row = tile.row; row < tile.row + tile.num_rows;) {
      const std::int64_t part = (row - span_row) / p.block;
      const std::int64_t end = std::min(span_row + (part + 1) * p.block, tile.row + tile.num_rows);
      for (std::int64_t i = from; i < to; i += lanes) {
        const std::int64_t n = std::min(lanes, to - i);
        const Range see = tile.lanes_of(block + i, block + i + n);
        const Range l{std::max(see.begin, row - tile.row), std::min(see.end, end - tile.row)};
        if (l.empty()) continue;
        const bool whole = whole_parts();
        const std::int64_t at = whole ? block + i - base : part * p.block + i;
        const Finish finish = whole ? Finish::add : Finish::go_on;
        add_part(b.p_rows + i * tile_lanes / 2, data.do_pairs, v_width(), l, n, finish,
                 (whole ? b.dv_total : b.dv_part) + at * v_width());
        add_part(b.ds_rows + i * tile_lanes / 2, data.q_pairs, q_width(), l, n, finish,
                 (whole ? b.dk_total : b.dk_part) + at * q_width());
      }
      row = end;
    }
  }

  /// All query rows of one span and one key/value head against every block of keys that they see.
  FOURMI_INLINE void span(std::int64_t group, std::int64_t row_begin, std::int64_t row_end, const Segment& segment,
                          const Buffers& b, Scratch scratch) const {
    Keys any;
    const std::int64_t heads = heads_per_group(), base = segment.key_begin;
    WorkingMemory& memory = WorkingMemory::mine();
    auto* tiles = memory.get<WideTile>(WorkingUse::tiles, tiles_per_span());
    auto* data = memory.get<TileData>(WorkingUse::tile_data, heads * tiles_per_span());
    std::int64_t num_tiles = 0;
    for (std::int64_t row = row_begin; row < row_end; row += tile_lanes) {
      tiles[num_tiles] = wide_tile(p, row, std::min(tile_lanes, row_end - row));
      any.join(tiles[num_tiles].any.begin, tiles[num_tiles].any.end);
      ++num_tiles;
    }
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t t = 0; t < num_tiles; ++t) {
        data[h * num_tiles + t] = take_tile(scratch);
        prepare(tiles[t], group * heads + h, b, data[h * num_tiles + t]);
      }
    const std::int64_t parts = divide_up(row_end - row_begin, p.block);
    for (std::int64_t block = any.empty() ? 0 : any.begin / p.block * p.block; block < any.end; block += p.block) {
      const Keys here = any.within(block, block + p.block);
      const std::int64_t n = here.end - here.begin;
      const WordRows k = word_rows(p.k + (here.begin * p.G + group) * p.Q, p.G * p.Q, n, p.Q, b.k);
      const WordRows v = word_rows(p.v + (here.begin * p.G + group) * p.V, p.G * p.V, n, p.V, b.v);
      const Word* k_pairs = b.k_pairs + (block - base / p.block * p.block) / p.block * block_pairs() * q_width();
      if (!whole_parts()) {
        std::fill_n(b.dk_part, parts * p.block * q_width(), 0.0F);
        std::fill_n(b.dv_part, parts * p.block * v_width(), 0.0F);
      }
      for (std::int64_t h = 0; h < heads; ++h)
        for (std::int64_t t = 0; t < num_tiles; ++t)
          if (!tiles[t].any.within(block, block + p.block).empty())
            tile_block(tiles[t], data[h * num_tiles + t], block, here.begin, k, v, k_pairs, row_begin, base, b);
      if (whole_parts()) continue;
      const std::int64_t from = here.begin - block, to = here.begin - base;
      if (p.query_leaves > 0) {
        float *dk_parts = b.dk_part + from * q_width(), *dv_parts = b.dv_part + from * v_width();
        join_blocks(dk_parts, parts, p.block * q_width(), n * q_width(), p.scale);
        join_blocks(dv_parts, parts, p.block * v_width(), n * v_width(), 1.0F);
        std::copy_n(dk_parts, n * q_width(), b.dk_total + to * q_width());
        std::copy_n(dv_parts, n * v_width(), b.dv_total + to * v_width());
        continue;
      }
      for (std::int64_t part = 0; part < parts; ++part) {
        add(b.dk_part + (part * p.block + from) * q_width(), n * q_width(), b.dk_total + to * q_width());
        add(b.dv_part + (part * p.block + from) * v_width(), n * v_width(), b.dv_total + to * v_width());
      }
    }
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t t = 0; t < num_tiles; ++t)
        for (std::int64_t l = 0; l < tiles[t].num_rows; ++l)
          store(data[h * num_tiles + t].dq + l * q_width(), p.Q, p.scale, x.dq,
                ((tiles[t].row + l) * p.H + group * heads + h) * p.Q);
  }

  FOURMI_INLINE static void add(const float* part, std::int64_t n, float* total) {
    for (std::int64_t i = 0; i < n; ++i) total[i] += part[i];
  }
  /// A zero counts as +0.
  FOURMI_INLINE static void store(const float* sum, std::int64_t n, float scale, const Bf16Result& to,
                                  std::int64_t at) {
    to.put<true>(at, sum, n, scale);
  }

  FOURMI_INLINE void item(const Segment& segment, std::int64_t group, Scratch scratch) const {
    const Buffers b = take_buffers(scratch);
    const std::int64_t n = segment.key_end - segment.key_begin, base = segment.key_begin;
    Totals<float> totals(b.dk_total, n * q_width(), b.dv_total, n * v_width(), p.query_leaves > 0);
    Keys any;
    for (std::int64_t i = segment.row_begin; i < segment.row_end; ++i) any.join(p.key_begin[i], p.key_end[i]);
    Word* pairs = b.k_pairs;
    for (std::int64_t block = base / p.block * p.block; block < any.end; block += p.block) {
      pair_rows(p.k + (block * p.G + group) * p.Q, p.G * p.Q, std::min(p.block, any.end - block),
                {any.begin - block, any.end - block}, p.Q, pairs, q_width());
      pairs += block_pairs() * q_width();
    }
    for (std::int64_t row = segment.row_begin; row < segment.row_end; row += span_size()) {
      Buffers node = b;
      if (row > segment.row_begin) totals.next();
      node.dk_total = totals.dk(), node.dv_total = totals.dv();
      span(group, row, std::min(row + span_size(), segment.row_end), segment, node, scratch);
      totals.take();
    }
    const float scale = p.query_leaves > 0 ? 1.0F : p.scale;  // in a tree the leaves have it already
    for (std::int64_t j = 0; j < n; ++j) {
      store(b.dk_total + j * q_width(), p.Q, scale, x.dk, ((base + j) * p.G + group) * p.Q);
      store(b.dv_total + j * v_width(), p.V, 1.0F, x.dv, ((base + j) * p.G + group) * p.V);
    }
  }

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    const Scratch scratch(scratch_bytes());
    for (std::int64_t i = begin; i < end; ++i) item(segments[i / p.G], i % p.G, scratch);
  }
};

}  // namespace

void backward_bf16(const Stream& stream, const Bf16Problem& p, const BackwardOperands& operands,
                   const std::vector<Segment>& segments) {
  std::int64_t max_keys = p.sequence;
  for (const Segment& s : segments) max_keys = std::max(max_keys, s.key_end - s.key_begin);
  run_rows(stream, static_cast<std::int64_t>(segments.size()) * p.G, 1,
           Bf16Backward{p, pair_kernels(stream.isa()), operands, segments.data(), max_keys});
}

}  // namespace fourmi::attention
