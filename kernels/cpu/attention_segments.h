// Cuts the rows of a call into segments that share no block of keys (sequences do), so that threads can take the
// gradients of keys and values of different segments. Where the cuts fall changes no sum; with a tree over query blocks
// they are the sequences.
#pragma once

#include "kernels/cpu/attention_problem.h"
#include "kernels/numerics/power_of_two.h"

namespace fourmi::attention {

/// Query rows in spans: one query block, or as many whole query blocks as fit sixteen lanes.
inline std::int64_t span_rows(std::int64_t block) {
  return block >= lanes ? block : lanes / block * block;
}

/// Query blocks that a span takes at once, where `most` fit: with a tree, a subtree of it.
inline std::int64_t blocks_of_span(std::int64_t most, std::int64_t query_leaves) {
  if (query_leaves == 0) return most;
  std::int64_t blocks = 1;
  while (2 * blocks <= std::min(most, query_leaves)) blocks *= 2;
  return blocks;
}

/// The partials of a span's query blocks, `apart` elements from each other, become one node of the tree over query
/// blocks, which is left in the first. A leaf is scale * partial + 0: a zero is +0.
template <class T>
FOURMI_INLINE void join_blocks(T* parts, std::int64_t num_parts, std::int64_t apart, std::int64_t n, T scale) {
  for (std::int64_t i = 0; i < num_parts; ++i)
    for (std::int64_t c = 0; c < n; ++c) parts[i * apart + c] = parts[i * apart + c] * scale + T{0};
  for (std::int64_t step = 1; step < num_parts; step *= 2)
    for (std::int64_t i = 0; i < num_parts; i += 2 * step)
      for (std::int64_t c = 0; c < n; ++c) parts[i * apart + c] += parts[(i + step) * apart + c];
}

/// What dk and dv of a segment's keys add up to, span by span: one total each, or the nodes of the tree that are not
/// joined yet, one a level.
template <class T>
class Totals {
 public:
  FOURMI_INLINE Totals(T* dk, std::int64_t dk_size, T* dv, std::int64_t dv_size, bool tree)
      : dk_(dk), dv_(dv), dk_size_(dk_size), dv_size_(dv_size), tree_(tree) {
    clear();
  }
  /// Where the next span adds its sums (in a tree: writes its node, all zero so far).
  FOURMI_INLINE T* dk() const { return dk_ + depth_ * dk_size_; }
  FOURMI_INLINE T* dv() const { return dv_ + depth_ * dv_size_; }
  FOURMI_INLINE void take() {
    if (!tree_) return;
    for (std::int64_t i = taken_++; i % 2 != 0; i /= 2) {
      --depth_;
      add(dk() + dk_size_, dk_size_, dk());
      add(dv() + dv_size_, dv_size_, dv());
    }
    ++depth_;
  }
  /// Before another span.
  FOURMI_INLINE void next() const {
    if (tree_) clear();
  }

 private:
  FOURMI_INLINE void clear() const {
    std::fill_n(dk(), dk_size_, T{0});
    std::fill_n(dv(), dv_size_, T{0});
  }
  FOURMI_INLINE static void add(const T* node, std::int64_t n, T* to) {
    for (std::int64_t i = 0; i < n; ++i) to[i] += node[i];
  }
  T *dk_, *dv_;
  std::int64_t dk_size_, dv_size_, depth_ = 0, taken_ = 0;
  bool tree_;
};

struct Segment {
  std::int64_t row_begin, row_end, key_begin, key_end;
};

/// One run of query_leaves blocks after the other, each with its share of the keys.
template <class X>
void cut_into_sequences(const Problem<X>& p, std::vector<Segment>& segments) {
  const std::int64_t rows = p.query_leaves * p.block, num = p.num_queries / rows;
  FOURMI_CHECK(
      num > 0 && num * rows == p.num_queries && p.num_keys % num == 0 && (num == 1 || p.num_keys / num % p.block == 0),
      "{} rows, {} keys, runs of {} blocks of {} rows", p.num_queries, p.num_keys, p.query_leaves, p.block);
  const std::int64_t keys = p.num_keys / num;
  segments.reserve(static_cast<std::size_t>(num));
  for (std::int64_t s = 0; s < num; ++s) {
    segments.push_back({s * rows, (s + 1) * rows, s * keys, (s + 1) * keys});
    for (std::int64_t i = s * rows; i < (s + 1) * rows; ++i)
      FOURMI_CHECK(p.key_begin[i] == p.key_end[i] || (s * keys <= p.key_begin[i] && p.key_end[i] <= (s + 1) * keys),
                   "row {} of run {} attends to [{}, {}), beyond its {} keys", i, s, p.key_begin[i], p.key_end[i],
                   keys);
  }
}

/// Segments in ascending order; their rows cover all rows and their keys all keys, each once.
template <class X>
const std::vector<Segment>& segments_of(const Problem<X>& p) {
  thread_local std::vector<Segment> segments;
  segments.clear();
  FOURMI_CHECK(p.query_leaves == 0 || is_power_of_two(p.query_leaves), "a tree over {} query blocks", p.query_leaves);
  if (p.query_leaves > 0 && p.num_queries > 0) {
    cut_into_sequences(p, segments);
    return segments;
  }
  const std::int64_t span = span_rows(p.block);
  segments.reserve(
      static_cast<std::size_t>(p.num_queries / span + 2));  // the most there can be: the next call allocates nothing
  std::int64_t seen_end = 0;                                // keys below it belong to the segment under way
  for (std::int64_t row = 0; row < p.num_queries; row += span) {
    Keys keys;
    const std::int64_t end = std::min(row + span, p.num_queries);
    for (std::int64_t i = row; i < end; ++i) keys.join(p.key_begin[i], p.key_end[i]);
    const std::int64_t first = keys.empty() ? 0 : keys.begin / p.block * p.block;
    if (segments.empty() || (!keys.empty() && seen_end > 0 && first >= seen_end)) {
      if (!segments.empty()) segments.back().row_end = row, segments.back().key_end = first;
      segments.push_back({row, p.num_queries, segments.empty() ? 0 : first, p.num_keys});
    }
    if (!keys.empty()) seen_end = std::max(seen_end, (keys.end + p.block - 1) / p.block * p.block);
  }
  if (segments.empty()) segments.push_back({0, 0, 0, p.num_keys});
  return segments;
}

}  // namespace fourmi::attention
