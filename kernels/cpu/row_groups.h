// Which rows of a weight gradient's operands share a scale (docs/numerics.md "FP8", columns). A run is what one partial
// sums: the rows of one expert, or of them those of one cut. Groups are counted from a run's first row; the last one of
// a run may be shorter. Group indices run on over all runs, in row order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/ops/linear.h"  // Cuts

namespace fourmi {

/// Rows [begin, end) of one partial and, from first_group on, their groups.
struct GroupRun {
  std::int64_t expert = 0, begin = 0, end = 0;
  std::int64_t first_group = 0, num_groups = 0;
};

/// Rows [begin, end): group `index`, of the run of rows [run_begin, run_end).
struct RowGroup {
  std::int64_t expert = 0, index = 0, begin = 0, end = 0;
  std::int64_t run_begin = 0, run_end = 0;
  bool first() const { return begin == run_begin; }
  bool last() const { return end == run_end; }
};

/// Where the run of row `begin` ends, among rows of one expert that end at `end`.
inline std::int64_t row_run_end(const Cuts& cuts, std::int64_t begin, std::int64_t end) {
  if (cuts.rows == 0) return end;
  if (cuts.row_token == nullptr) return std::min(end, (begin / cuts.rows + 1) * cuts.rows);
  const std::int64_t part = cuts.row_token[begin] / cuts.rows;
  std::int64_t r = begin + 1;
  while (r < end && cuts.row_token[r] / cuts.rows == part) ++r;
  return r;
}

/// The groups of a call: `offsets` as in a grouped linear map; empty: one run (or its cuts) over num_rows rows.
struct RowGroups {
  std::span<const std::int32_t> offsets;
  std::int64_t num_rows = 0;
  Cuts cuts;
  std::int64_t group_rows = 128;

  std::int64_t num_experts() const { return offsets.empty() ? 1 : static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t expert_begin(std::int64_t e) const { return offsets.empty() ? 0 : offsets[static_cast<std::size_t>(e)]; }
  std::int64_t expert_end(std::int64_t e) const {
    return offsets.empty() ? num_rows : offsets[static_cast<std::size_t>(e) + 1];
  }

  /// f(GroupRun) for every run, in row order. An expert without rows has none.
  template <class F>
  void for_each_run(const F& f) const {
    std::int64_t group = 0;
    for (std::int64_t e = 0; e < num_experts(); ++e) {
      const std::int64_t expert_rows_end = expert_end(e);
      for (std::int64_t begin = expert_begin(e); begin < expert_rows_end;) {
        const std::int64_t end = row_run_end(cuts, begin, expert_rows_end);
        const std::int64_t n = (end - begin + group_rows - 1) / group_rows;
        f(GroupRun{e, begin, end, group, n});
        begin = end;
        group += n;
      }
    }
  }
  /// f(RowGroup) for every group, in row order.
  template <class F>
  void for_each_group(const F& f) const {
    for_each_run([&](const GroupRun& run) {
      for (std::int64_t g = 0; g < run.num_groups; ++g) {
        const std::int64_t begin = run.begin + g * group_rows;
        f(RowGroup{run.expert, run.first_group + g, begin, std::min(begin + group_rows, run.end), run.begin, run.end});
      }
    });
  }
  std::int64_t num_groups() const {
    std::int64_t n = 0;
    for_each_run([&n](const GroupRun& run) { n += run.num_groups; });
    return n;
  }
};

}  // namespace fourmi
