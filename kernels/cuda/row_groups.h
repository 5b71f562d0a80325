// The groups of rows of a ColumnScaled (kernels/cpu/row_groups.h) for kernels: which rows are in group g. For .cu
// files.
#pragma once

#include <vector>

#include "kernels/cpu/row_groups.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"

namespace fourmi::cuda {

/// Of experts' rows, each cut into runs of cut_rows where that is not 0. Cuts of tokens (Cuts::row_token) are not here.
struct GroupTable {
  const std::int32_t* offsets = nullptr;      ///< of the device: where experts' rows begin, and end
  const std::int32_t* first_group = nullptr;  ///< alike: of each expert; and how many there are
  int num_experts = 0, group_rows = 128;
  int num_groups = 0;
  std::int64_t cut_rows = 0;

  struct Group {
    std::int64_t begin;
    int rows;
  };
  /// Rows of group g < num_groups, the same for the whole warp, which calls it together.
  __device__ Group operator()(int g) const {
    int expert = -1;  // the last one whose first group is not above g: it has rows
#pragma unroll 4
    for (int first = 0; first < num_experts; first += warp_size) {
      const int mine = first + static_cast<int>(threadIdx.x) % warp_size;
      expert += __popc(__ballot_sync(all_lanes, mine < num_experts && first_group[mine] <= g));
    }
    std::int64_t begin = offsets[expert], end = offsets[expert + 1];
    std::int64_t in = g - first_group[expert];
    if (cut_rows > 0) {
      const std::int64_t first_end = min(end, (begin / cut_rows + 1) * cut_rows);
      const std::int64_t of_first = (first_end - begin + group_rows - 1) / group_rows;
      if (in < of_first) {
        end = first_end;
      } else {
        const std::int64_t of_run = (cut_rows + group_rows - 1) / group_rows;
        in -= of_first;
        begin = first_end + in / of_run * cut_rows;
        end = min(end, begin + cut_rows);
        in %= of_run;
      }
    }
    begin += in * group_rows;
    return {begin, static_cast<int>(min(std::int64_t{group_rows}, end - begin))};
  }
};

/// Of a call over num_rows rows: `offsets` as in a grouped linear map, empty: one expert has them all.
inline GroupTable group_table(const CudaStream& stream, std::span<const std::int32_t> offsets, std::int64_t num_rows,
                              const Cuts& cuts, std::int64_t group_rows) {
  FOURMI_CHECK(cuts.row_token == nullptr && num_rows < std::int64_t{1} << 31, "mode layout on a GPU, or {} rows",
               num_rows);
  const std::int32_t all[] = {0, static_cast<std::int32_t>(num_rows)};
  const RowGroups groups{offsets, num_rows, cuts, group_rows};
  std::vector<std::int32_t> first(static_cast<std::size_t>(groups.num_experts()) + 1);
  std::int64_t expert = 0, count = 0;
  groups.for_each_run([&](const GroupRun& run) {
    while (expert <= run.expert) first[static_cast<std::size_t>(expert++)] = static_cast<std::int32_t>(run.first_group);
    count = run.first_group + run.num_groups;
  });
  while (expert <= groups.num_experts()) first[static_cast<std::size_t>(expert++)] = static_cast<std::int32_t>(count);
  if (offsets.empty()) offsets = all;
  GroupTable table;
  table.num_experts = static_cast<int>(groups.num_experts());
  table.group_rows = static_cast<int>(group_rows);
  table.num_groups = static_cast<int>(count);
  table.cut_rows = cuts.rows == 0 ? 0 : std::min(cuts.rows, std::max<std::int64_t>(1, num_rows));
  if (count == 0) return table;
  table.offsets = stream.upload(offsets);
  table.first_group = stream.upload(std::span<const std::int32_t>(first));
  return table;
}

}  // namespace fourmi::cuda
