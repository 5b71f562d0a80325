// Cuts the rows of a call into segments that share no block of keys (sequences do), so that threads can take the
// gradients of keys and values of different segments. Where the cuts fall changes no sum.
#pragma once

#include "kernels/cpu/attention_problem.h"

namespace fourmi::attention {

/// Query rows in spans: one query block, or as many whole query blocks as fit sixteen lanes.
inline std::int64_t span_rows(std::int64_t block) {
  return block >= lanes ? block : lanes / block * block;
}

struct Segment {
  std::int64_t row_begin, row_end, key_begin, key_end;
};

/// Segments in ascending order; their rows cover all rows and their keys all keys, each once.
template <class X>
const std::vector<Segment>& segments_of(const Problem<X>& p) {
  thread_local std::vector<Segment> segments;
  segments.clear();
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
