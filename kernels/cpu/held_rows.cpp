#include "kernels/ops/held_rows.h"

#include <algorithm>

#include "kernels/ops/door.h"

namespace fourmi {

void count_held_below(const Stream& stream, const HeldRows& held, const Tensor& rows_M, const Tensor& below_M) {
  FOURMI_DOOR(count_held_below, stream, held, rows_M, below_M);
  const std::int64_t num = rows_M.num_elements();
  FOURMI_CHECK(held.sequence > 0 && below_M.num_elements() == num && held.end[0] <= held.begin[1] &&
                   held.end[1] <= held.sequence,
               "runs of {} rows, {} and {} rows", held.sequence, num, below_M.num_elements());
  const auto* rows = rows_M.as<std::int32_t>();
  auto* below = below_M.as<std::int32_t>();
  const auto among = [&](std::int64_t row) {
    std::int64_t count = 0;
    for (std::size_t i = 0; i < 2; ++i) count += std::clamp(row, held.begin[i], held.end[i]) - held.begin[i];
    return count;
  };
  const std::int64_t each = among(held.sequence);
  for (std::int64_t i = 0; i < num; ++i)
    below[i] = static_cast<std::int32_t>(rows[i] / held.sequence * each + among(rows[i] % held.sequence));
}

}  // namespace fourmi
