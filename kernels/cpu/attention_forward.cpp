#include "kernels/cpu/attention_doors.h"
#include "kernels/cpu/run_rows.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace attention {
namespace {

constexpr std::int64_t tiles_per_item = 4;  // tiles that share a widened block of keys and values

/// The running softmax of a tile: per lane the maximum, the denominator, and the unnormalised output.
template <class T>
struct State {
  T *q, *o, *max, *sum;  // q [padded Q][lane], o [padded V][lane]
};

/// One block of keys. s [keys][lane] holds q k^T and becomes the probabilities; sets what o has to be multiplied by.
/// `first` is the position of the first key in its absolute block.
template <class T>
FOURMI_INLINE bool online_softmax(const Split& keys, std::int64_t first, const MaskWord<T>* mask, T scale, T* s,
                                  const State<T>& state, T* rescale) {
  constexpr T minus_infinity = -std::numeric_limits<T>::infinity();
  T max[4][lanes], part[lanes][lanes] = {};
  for (int i = 0; i < 4; ++i)
    for (int l = 0; l < lanes; ++l) max[i][l] = state.max[l];
  const std::int64_t n = keys.end - keys.begin;
  const auto scores = [&](std::int64_t begin, std::int64_t end, auto masked) __attribute__((always_inline)) {
    for (std::int64_t j = begin - keys.begin; j < end - keys.begin; ++j) {
      T* __restrict row = s + j * lanes;
      T* __restrict most = max[j % 4];  // maxima are exact: four of them hide the latency
#pragma GCC unroll 1
      for (int l = 0; l < lanes; ++l) {
        T x = row[l] * scale;
        if constexpr (masked) x = mask[j * lanes + l] != 0 ? x : minus_infinity;
        row[l] = x;
        most[l] = x > most[l] ? x : most[l];
      }
    }
  };
  scores(keys.begin, keys.full_begin, std::true_type{});
  scores(keys.full_begin, keys.full_end, std::false_type{});
  scores(keys.full_end, keys.end, std::true_type{});
  T shift[lanes];
  for (int l = 0; l < lanes; ++l) {
    const T a = max[0][l] > max[1][l] ? max[0][l] : max[1][l], b = max[2][l] > max[3][l] ? max[2][l] : max[3][l];
    const T most = a > b ? a : b;
    shift[l] = most == minus_infinity ? T{0} : most;
    rescale[l] = exp(state.max[l] - shift[l]);
    max[0][l] = most;
  }
  int changed = 0;
  for (int l = 0; l < lanes; ++l) {
    changed |= rescale[l] != T{1};
    state.max[l] = max[0][l];
  }
  for (std::int64_t j = 0; j < n; ++j) {
    T* __restrict row = s + j * lanes;
    T* __restrict sum = part[(first + j) % lanes];
    for (int l = 0; l < lanes; ++l) {
      row[l] = exp(row[l] - shift[l]);
      sum[l] += row[l];
    }
  }
  // The lane sum over keys, for sixteen rows side by side.
  for (int half = lanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i)
      for (int l = 0; l < lanes; ++l) part[i][l] += part[i + half][l];
  for (int l = 0; l < lanes; ++l) state.sum[l] = fma(state.sum[l], rescale[l], part[0][l]);
  return changed != 0;
}

/// Items are (head, group of tiles): all sums of a row are made by one item.
template <class X>
struct Forward {
  using T = Accumulator<X>;
  Problem<X> p;
  X* o;
  T* lse;

  FOURMI_INLINE std::int64_t scratch_bytes() const {
    return tiles_per_item * (Scratch::bytes<T>(padded(p.Q) * lanes) + Scratch::bytes<T>(padded(p.V) * lanes) +
                             2 * Scratch::bytes<T>(lanes)) +
           Scratch::bytes<T>(padded(std::max(p.Q, p.V)) * lanes) + Scratch::bytes<T>(p.block * p.Q) +
           Scratch::bytes<T>(p.block * p.V) + Scratch::bytes<T>(p.block * lanes) +
           Scratch::bytes<MaskWord<T>>(p.block * lanes);
  }

  FOURMI_INLINE void store(const Tile& tile, std::int64_t head, const State<T>& state, T* rows) const {
    T inverse[lanes], log_sum[lanes];
    for (int l = 0; l < lanes; ++l) {
      inverse[l] = state.sum[l] == T{0} ? T{0} : T{1} / state.sum[l];
      log_sum[l] = state.max[l] + log(state.sum[l]);
    }
    store_columns(p.chains, tile, state.o, p.V, inverse, rows, o + (tile.row * p.H + head) * p.V, p.H * p.V);
    for (std::int64_t l = 0; l < tile.num_rows; ++l) lse[(tile.row + l) * p.H + head] = log_sum[l];
  }

  FOURMI_INLINE void item(std::int64_t head, std::int64_t row, Scratch scratch) const {
    Tile tiles[tiles_per_item];
    State<T> states[tiles_per_item];
    Keys any;
    T* rows = scratch.take<T>(padded(std::max(p.Q, p.V)) * lanes);
    int num_tiles = 0;
    for (; num_tiles < tiles_per_item && row < p.num_queries; ++num_tiles, row += lanes) {
      Tile& tile = tiles[num_tiles] = tile_of(p, row, std::min(lanes, p.num_queries - row));
      State<T>& state = states[num_tiles] = {scratch.take<T>(padded(p.Q) * lanes), scratch.take<T>(padded(p.V) * lanes),
                                             scratch.take<T>(lanes), scratch.take<T>(lanes)};
      load_rows(tile, p.q + (row * p.H + head) * p.Q, p.H * p.Q, p.Q, rows);
      to_columns(p.chains, rows, padded(p.Q), state.q);
      std::fill_n(state.o, padded(p.V) * lanes, T{0});
      std::fill_n(state.sum, lanes, T{0});
      std::fill_n(state.max, lanes, -std::numeric_limits<T>::infinity());
      any.join(tile.any.begin, tile.any.end);
    }
    T* k_storage = scratch.take<T>(p.block * p.Q);
    T* v_storage = scratch.take<T>(p.block * p.V);
    T* s = scratch.take<T>(p.block * lanes);
    auto* mask = scratch.take<MaskWord<T>>(p.block * lanes);
    const std::int64_t group = head / (p.H / p.G);
    for (std::int64_t block = any.empty() ? 0 : any.begin / p.block * p.block; block < any.end; block += p.block) {
      const Keys here = any.within(block, block + p.block);
      const std::int64_t n = here.end - here.begin;
      const Rows<T> k = rows_in(p.k + (here.begin * p.G + group) * p.Q, p.G * p.Q, n, p.Q, k_storage);
      const Rows<T> v = rows_in(p.v + (here.begin * p.G + group) * p.V, p.G * p.V, n, p.V, v_storage);
      for (int t = 0; t < num_tiles; ++t) {
        const Split keys = split(tiles[t], block, block + p.block);
        if (keys.begin == keys.end) continue;
        const State<T>& state = states[t];
        const T* k0 = k.data + (keys.begin - here.begin) * k.stride;
        const T* v0 = v.data + (keys.begin - here.begin) * v.stride;
        T rescale[lanes];
        make_mask<T>(tiles[t], keys, mask);
        p.chains.add({state.q, lanes, k0, 1, k.stride, p.Q, s, lanes, keys.end - keys.begin, true});
        if (online_softmax(keys, keys.begin - block, mask, p.scale, s, state, rescale))
          for (std::int64_t c = 0; c < p.V; ++c)
            for (int l = 0; l < lanes; ++l) state.o[c * lanes + l] *= rescale[l];
        add_over_keys<T>(p.chains, {s, lanes, v0, v.stride, 1, 0, state.o, lanes, p.V}, keys, mask);
      }
    }
    for (int t = 0; t < num_tiles; ++t) store(tiles[t], head, states[t], rows);
  }

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    const Scratch scratch(scratch_bytes());
    for (std::int64_t i = begin; i < end; ++i) item(i % p.H, i / p.H * tiles_per_item * lanes, scratch);
  }
};

}  // namespace
}  // namespace attention

void attention_forward(const Stream& stream, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_MGQ,
                       const Tensor& v_MGV, const Tensor& key_begin_M, const Tensor& key_end_M, const Tensor& o_MHV,
                       const Tensor& lse_MH) {
  FOURMI_DOOR(attention_forward, stream, attention, q_MHQ, k_MGQ, v_MGV, key_begin_M, key_end_M, o_MHV, lse_MH);
  const Span span(stream.timeline(), Work::attention, "attention_forward");
  using namespace attention;
  visit_float(q_MHQ.dtype, "attention", [&]<class X>(std::type_identity<X>) {
    const Problem<X> p = problem_of<X>(stream, attention, q_MHQ, k_MGQ, v_MGV, key_begin_M, key_end_M);
    FOURMI_CHECK(o_MHV.shape == Shape({p.num_queries, p.H, p.V}) && lse_MH.num_elements() == p.num_queries * p.H,
                 "o {}, lse {}", to_string(o_MHV.shape), to_string(lse_MH.shape));
    if constexpr (std::is_same_v<X, bfloat16>) {
      forward_bf16(stream, p, result_of(o_MHV), lse_MH.as<float>());
    } else {
      const std::int64_t rows_per_item = tiles_per_item * lanes;
      run_rows(stream, (p.num_queries + rows_per_item - 1) / rows_per_item * p.H, 1,
               Forward<X>{p, o_MHV.as<X>(), lse_MH.as<X>()});
    }
  });
}

}  // namespace fourmi
