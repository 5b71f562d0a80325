#include "kernels/ops/held_rows.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/device/stream.h"

namespace fourmi {
namespace {

TEST(HeldRows, AreCountedBelowEachRow) {
  ThreadPool pool(1);
  // Of sequences of 16, rows 2 to 4 and 11 to 13 each: one run, none, and one that reaches the end too.
  for (const HeldRows& held : {HeldRows{16, {2, 11}, {5, 14}}, HeldRows{16, {0, 16}, {4, 16}},
                               HeldRows{16, {3, 12}, {3, 16}}, HeldRows{16, {0, 8}, {8, 16}}}) {
    std::vector<std::int32_t> rows, below(49);
    for (std::int32_t row = 0; row <= 48; ++row) rows.push_back(row);
    count_held_below(test::stream_of(pool), held, Tensor(rows.data(), DType::i32, {49}),
                     Tensor(below.data(), DType::i32, {49}));
    std::int32_t count = 0;
    for (std::int64_t row = 0; row <= 48; ++row) {
      EXPECT_EQ(below[static_cast<std::size_t>(row)], count) << row;
      const std::int64_t t = row % 16;
      count += (held.begin[0] <= t && t < held.end[0]) || (held.begin[1] <= t && t < held.end[1]);
    }
  }
}

}  // namespace
}  // namespace fourmi
