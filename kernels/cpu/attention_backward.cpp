#include "kernels/cpu/attention_doors.h"
#include "kernels/cpu/run_rows.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace attention {
namespace {

/// What a tile of query rows of one head needs while it passes over the blocks of keys.
template <class T>
struct TileData {
  T *q_columns, *do_columns;  // [padded Q][lane], [padded V][lane]
  T *q_rows, *do_rows;        // [lane][padded Q], [lane][padded V]; rows that see no key are zero
  T* dq;                      // [padded Q][lane]
  T *lse, *delta;             // [lane]
};

/// Memory of one item, carved from the thread's scratch.
template <class T>
struct Buffers {
  T *k, *v;                // a block of keys and values, widened
  T *p, *ds;               // [keys of a block][lane]
  MaskWord<T>* mask;       // [keys of a block][lane]
  T *dk_part, *dv_part;    // [query blocks of a span][keys of a block][padded Q or V]
  T *dk_total, *dv_total;  // [levels of the tree][keys of the segment][padded Q or V]
};

/// Items are (segment, key/value head): every sum that they make is whole.
template <class X>
struct Backward {
  using T = Accumulator<X>;
  Problem<X> p;
  const X *o, *d_o;
  const T* lse;
  X *dq, *dk, *dv;
  const Segment* segments;
  std::int64_t max_keys;  // the most keys of a segment

  FOURMI_INLINE std::int64_t q_width() const { return padded(p.Q); }
  FOURMI_INLINE std::int64_t v_width() const { return padded(p.V); }
  FOURMI_INLINE std::int64_t heads_per_group() const { return p.H / p.G; }
  FOURMI_INLINE std::int64_t tiles_per_span() const { return (span_rows(p.block) + lanes - 1) / lanes; }
  FOURMI_INLINE std::int64_t blocks_per_span() const {
    return blocks_of_span(span_rows(p.block) / p.block, p.query_leaves);
  }
  /// Nodes of the tree over query blocks that are kept at once.
  FOURMI_INLINE std::int64_t num_nodes() const { return 1 + tree_levels(p.query_leaves / blocks_per_span()); }

  FOURMI_INLINE std::int64_t scratch_bytes() const {
    const std::int64_t tile = 3 * Scratch::bytes<T>(q_width() * lanes) + 2 * Scratch::bytes<T>(v_width() * lanes) +
                              2 * Scratch::bytes<T>(lanes);
    return heads_per_group() * tiles_per_span() * tile + Scratch::bytes<T>(p.block * p.Q) +
           Scratch::bytes<T>(p.block * p.V) + 2 * Scratch::bytes<T>(p.block * lanes) +
           Scratch::bytes<MaskWord<T>>(p.block * lanes) + Scratch::bytes<T>(blocks_per_span() * p.block * q_width()) +
           Scratch::bytes<T>(blocks_per_span() * p.block * v_width()) +
           Scratch::bytes<T>(num_nodes() * max_keys * q_width()) +
           Scratch::bytes<T>(num_nodes() * max_keys * v_width());
  }
  FOURMI_INLINE Buffers<T> take_buffers(Scratch& scratch) const {
    return {scratch.take<T>(p.block * p.Q),
            scratch.take<T>(p.block * p.V),
            scratch.take<T>(p.block * lanes),
            scratch.take<T>(p.block * lanes),
            scratch.take<MaskWord<T>>(p.block * lanes),
            scratch.take<T>(blocks_per_span() * p.block * q_width()),
            scratch.take<T>(blocks_per_span() * p.block * v_width()),
            scratch.take<T>(num_nodes() * max_keys * q_width()),
            scratch.take<T>(num_nodes() * max_keys * v_width())};
  }
  FOURMI_INLINE TileData<T> take_tile(Scratch& scratch) const {
    return {scratch.take<T>(q_width() * lanes),
            scratch.take<T>(v_width() * lanes),
            scratch.take<T>(q_width() * lanes),
            scratch.take<T>(v_width() * lanes),
            scratch.take<T>(q_width() * lanes),
            scratch.take<T>(lanes),
            scratch.take<T>(lanes)};
  }

  FOURMI_INLINE void prepare(const Tile& tile, std::int64_t head, const TileData<T>& data) const {
    const X* q0 = p.q + (tile.row * p.H + head) * p.Q;
    const X* do0 = d_o + (tile.row * p.H + head) * p.V;
    const X* o0 = o + (tile.row * p.H + head) * p.V;
    load_rows(tile, q0, p.H * p.Q, p.Q, data.q_rows);
    load_rows(tile, do0, p.H * p.V, p.V, data.do_rows);
    to_columns(p.chains, data.q_rows, q_width(), data.q_columns);
    to_columns(p.chains, data.do_rows, v_width(), data.do_columns);
    std::fill_n(data.dq, q_width() * lanes, T{0});
    for (std::int64_t l = 0; l < lanes; ++l) {
      const bool used = l < tile.num_rows;
      data.lse[l] = used ? lse[(tile.row + l) * p.H + head] : T{0};
      data.delta[l] = used ? lane_dot<T>(do0 + l * p.H * p.V, o0 + l * p.H * p.V, p.V) : T{0};
    }
  }

  /// From scores and dp (both [key][lane]) to probabilities and ds, zero outside of the mask.
  FOURMI_INLINE void probabilities(const Split& keys, const TileData<T>& data, const Buffers<T>& b) const {
    const auto rows = [&](std::int64_t begin, std::int64_t end, auto masked) __attribute__((always_inline)) {
      for (std::int64_t j = (begin - keys.begin) * lanes; j < (end - keys.begin) * lanes; j += lanes) {
        T* __restrict prob = b.p + j;
        T* __restrict ds = b.ds + j;
        for (int l = 0; l < lanes; ++l) {
          T e = exp(prob[l] * p.scale - data.lse[l]), d = e * (ds[l] - data.delta[l]);
          if constexpr (masked) {
            e = b.mask[j + l] != 0 ? e : T{0};
            d = b.mask[j + l] != 0 ? d : T{0};
          }
          prob[l] = e;
          ds[l] = d;
        }
      }
    };
    rows(keys.begin, keys.full_begin, std::true_type{});
    rows(keys.full_begin, keys.full_end, std::false_type{});
    rows(keys.full_end, keys.end, std::true_type{});
  }

  /// part[key][width] += sum over the rows [row, row + n) of the tile, as chains: x_rows [lane][width], w [key][lane].
  FOURMI_INLINE void add_part(const T* x_rows, std::int64_t width, const T* w, std::int64_t row, std::int64_t n,
                              std::int64_t num_keys, T* part) const {
    for (std::int64_t c = 0; c < width; c += lanes)
      p.chains.add({x_rows + row * width + c, width, w + row, 1, lanes, n, part + c, width, num_keys});
  }

  /// One block of keys against one tile of one head; `k`, `v` start at key `first`.
  FOURMI_INLINE void tile_block(const Tile& tile, const TileData<T>& data, const Split& keys, std::int64_t block,
                                std::int64_t first, const Rows<T>& k, const Rows<T>& v, std::int64_t span_row,
                                const Buffers<T>& b) const {
    const std::int64_t n = keys.end - keys.begin;
    const T* k0 = k.data + (keys.begin - first) * k.stride;
    const T* v0 = v.data + (keys.begin - first) * v.stride;
    make_mask<T>(tile, keys, b.mask);
    p.chains.add({data.q_columns, lanes, k0, 1, k.stride, p.Q, b.p, lanes, n, true});
    p.chains.add({data.do_columns, lanes, v0, 1, v.stride, p.V, b.ds, lanes, n, true});
    probabilities(keys, data, b);
    add_over_keys<T>(p.chains, {b.ds, lanes, k0, k.stride, 1, 0, data.dq, lanes, p.Q}, keys, b.mask);
    // The tile's rows by query block: each block has its own partial.
    for (std::int64_t row = tile.row; row < tile.row + tile.num_rows;) {
      const std::int64_t part = (row - span_row) / p.block;
      const std::int64_t end = std::min(span_row + (part + 1) * p.block, tile.row + tile.num_rows);
      const std::int64_t lane = row - tile.row, at = part * p.block + keys.begin - block;
      // A query block meets only keys that one of its rows sees: what other sequences hold must not reach it.
      const Keys seen = Keys{p.key_begin[row], p.key_end[end - 1]}.within(keys.begin, keys.end);
      if (!seen.empty()) {
        const std::int64_t skip = seen.begin - keys.begin, count = seen.end - seen.begin;
        add_part(data.do_rows, v_width(), b.p + skip * lanes, lane, end - row, count,
                 b.dv_part + (at + skip) * v_width());
        add_part(data.q_rows, q_width(), b.ds + skip * lanes, lane, end - row, count,
                 b.dk_part + (at + skip) * q_width());
      }
      row = end;
    }
  }

  /// All query rows of one span and one key/value head against every block of keys that they see.
  FOURMI_INLINE void span(std::int64_t group, std::int64_t row_begin, std::int64_t row_end, std::int64_t key_base,
                          const Buffers<T>& b, Scratch scratch) const {
    Keys any;
    const std::int64_t heads = heads_per_group();
    WorkingMemory& memory = WorkingMemory::mine();
    auto* tiles = memory.get<Tile>(WorkingUse::tiles, tiles_per_span());
    auto* data = memory.get<TileData<T>>(WorkingUse::tile_data, heads * tiles_per_span());
    std::int64_t num_tiles = 0;
    for (std::int64_t row = row_begin; row < row_end; row += lanes) {
      tiles[num_tiles] = tile_of(p, row, std::min(lanes, row_end - row));
      any.join(tiles[num_tiles].any.begin, tiles[num_tiles].any.end);
      ++num_tiles;
    }
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t t = 0; t < num_tiles; ++t) {
        data[h * num_tiles + t] = take_tile(scratch);
        prepare(tiles[t], group * heads + h, data[h * num_tiles + t]);
      }
    const std::int64_t parts = (row_end - row_begin + p.block - 1) / p.block;
    for (std::int64_t block = any.empty() ? 0 : any.begin / p.block * p.block; block < any.end; block += p.block) {
      const Keys here = any.within(block, block + p.block);
      const std::int64_t n = here.end - here.begin;
      const Rows<T> k = rows_in(p.k + (here.begin * p.G + group) * p.Q, p.G * p.Q, n, p.Q, b.k);
      const Rows<T> v = rows_in(p.v + (here.begin * p.G + group) * p.V, p.G * p.V, n, p.V, b.v);
      std::fill_n(b.dk_part, parts * p.block * q_width(), T{0});
      std::fill_n(b.dv_part, parts * p.block * v_width(), T{0});
      for (std::int64_t h = 0; h < heads; ++h)
        for (std::int64_t t = 0; t < num_tiles; ++t) {
          const Split keys = split(tiles[t], block, block + p.block);
          if (keys.begin < keys.end)
            tile_block(tiles[t], data[h * num_tiles + t], keys, block, here.begin, k, v, row_begin, b);
        }
      const std::int64_t from = here.begin - block, to = here.begin - key_base;
      if (p.query_leaves > 0) {
        T *dk_parts = b.dk_part + from * q_width(), *dv_parts = b.dv_part + from * v_width();
        join_blocks(dk_parts, parts, p.block * q_width(), n * q_width(), p.scale);
        join_blocks(dv_parts, parts, p.block * v_width(), n * v_width(), T{1});
        std::copy_n(dk_parts, n * q_width(), b.dk_total + to * q_width());
        std::copy_n(dv_parts, n * v_width(), b.dv_total + to * v_width());
        continue;
      }
      for (std::int64_t part = 0; part < parts; ++part) {
        add(b.dk_part + (part * p.block + from) * q_width(), n * q_width(), b.dk_total + to * q_width());
        add(b.dv_part + (part * p.block + from) * v_width(), n * v_width(), b.dv_total + to * v_width());
      }
    }
    T scales[lanes];
    std::fill_n(scales, lanes, p.scale);
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t t = 0; t < num_tiles; ++t) {
        const TileData<T>& d = data[h * num_tiles + t];
        X* out = dq + (tiles[t].row * p.H + group * heads + h) * p.Q;
        store_columns(p.chains, tiles[t], d.dq, p.Q, scales, d.q_rows, out, p.H * p.Q);
      }
  }

  FOURMI_INLINE static void add(const T* part, std::int64_t n, T* total) {
    for (std::int64_t i = 0; i < n; ++i) total[i] += part[i];
  }

  FOURMI_INLINE void item(const Segment& segment, std::int64_t group, Scratch scratch) const {
    const Buffers<T> b = take_buffers(scratch);
    const std::int64_t n = segment.key_end - segment.key_begin, rows = blocks_per_span() * p.block;
    Totals<T> totals(b.dk_total, n * q_width(), b.dv_total, n * v_width(), p.query_leaves > 0);
    for (std::int64_t row = segment.row_begin; row < segment.row_end; row += rows) {
      Buffers<T> node = b;
      if (row > segment.row_begin) totals.next();
      node.dk_total = totals.dk(), node.dv_total = totals.dv();
      span(group, row, std::min(row + rows, segment.row_end), segment.key_begin, node, scratch);
      totals.take();
    }
    const T scale = p.query_leaves > 0 ? T{1} : p.scale;  // in a tree the leaves have it already
    for (std::int64_t j = 0; j < n; ++j) {
      X* dk_out = dk + ((segment.key_begin + j) * p.G + group) * p.Q;
      X* dv_out = dv + ((segment.key_begin + j) * p.G + group) * p.V;
      for (std::int64_t c = 0; c < p.Q; ++c) dk_out[c] = narrow<X>(b.dk_total[j * q_width() + c] * scale);
      for (std::int64_t c = 0; c < p.V; ++c) dv_out[c] = narrow<X>(b.dv_total[j * v_width() + c]);
    }
  }

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    const Scratch scratch(scratch_bytes());
    for (std::int64_t i = begin; i < end; ++i) item(segments[i / p.G], i % p.G, scratch);
  }
};

}  // namespace
}  // namespace attention

void attention_backward(const Stream& stream, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_MGQ,
                        const Tensor& v_MGV, const Tensor& key_begin_M, const Tensor& key_end_M, const Tensor& o_MHV,
                        const Tensor& lse_MH, const Tensor& do_MHV, const Tensor& dq_MHQ, const Tensor& dk_MGQ,
                        const Tensor& dv_MGV) {
  FOURMI_DOOR(attention_backward, stream, attention, q_MHQ, k_MGQ, v_MGV, key_begin_M, key_end_M, o_MHV, lse_MH, do_MHV,
              dq_MHQ, dk_MGQ, dv_MGV);
  const Span span(stream.timeline(), Work::attention, "attention_backward");
  using namespace attention;
  visit_float(q_MHQ.dtype, "attention", [&]<class X>(std::type_identity<X>) {
    const Problem<X> p = problem_of<X>(stream, attention, q_MHQ, k_MGQ, v_MGV, key_begin_M, key_end_M);
    const Shape o_shape({p.num_queries, p.H, p.V});
    FOURMI_CHECK(o_MHV.shape == o_shape && do_MHV.shape == o_shape && lse_MH.num_elements() == p.num_queries * p.H,
                 "o {}, do {}, lse {}", to_string(o_MHV.shape), to_string(do_MHV.shape), to_string(lse_MH.shape));
    FOURMI_CHECK(dq_MHQ.shape == q_MHQ.shape && dk_MGQ.shape == k_MGQ.shape && dv_MGV.shape == v_MGV.shape,
                 "dq {}, dk {}, dv {}", to_string(dq_MHQ.shape), to_string(dk_MGQ.shape), to_string(dv_MGV.shape));
    const std::vector<Segment>& segments = segments_of(p);
    if constexpr (std::is_same_v<X, bfloat16>) {
      const BackwardOperands x{o_MHV.as<X>(),     do_MHV.as<X>(),    lse_MH.as<float>(),
                               result_of(dq_MHQ), result_of(dk_MGQ), result_of(dv_MGV)};
      backward_bf16(stream, p, x, segments);
    } else {
      std::int64_t max_keys = p.sequence;
      for (const Segment& s : segments) max_keys = std::max(max_keys, s.key_end - s.key_begin);
      const auto num_segments = static_cast<std::int64_t>(segments.size());
      run_rows(stream, num_segments * p.G, 1,
               Backward<X>{p, o_MHV.as<X>(), do_MHV.as<X>(), lse_MH.as<X>(), dq_MHQ.as<X>(), dk_MGQ.as<X>(),
                           dv_MGV.as<X>(), segments.data(), max_keys});
    }
  });
}

}  // namespace fourmi
