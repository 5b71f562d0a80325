// That boxes tile a tensor exactly: one sweep over the rows, which keeps the columns of the boxes that hold the present
// row. Exact at every row where a box begins or ends, hence at every row.
#include <algorithm>
#include <map>
#include <numeric>

#include "framework/checkpoint/manifest.h"

namespace fourmi {
namespace {

/// The boxes that hold the present row, by their first column.
class Active {
 public:
  /// False if a column of the box is held already.
  bool add(const Rectangle& box) {
    const auto after = columns_.lower_bound(box.first_column);
    if (after != columns_.end() && after->first < box.end_column()) return false;
    if (after != columns_.begin() && std::prev(after)->second > box.first_column) return false;
    columns_.emplace_hint(after, box.first_column, box.end_column());
    held_ += box.num_columns;
    return true;
  }
  void remove(const Rectangle& box) {
    columns_.erase(box.first_column);
    held_ -= box.num_columns;
  }
  std::int64_t held() const { return held_; }
  std::int64_t first_missing() const {
    std::int64_t next = 0;
    for (const auto& [first, end] : columns_) {
      if (first != next) break;
      next = end;
    }
    return next;
  }

 private:
  std::map<std::int64_t, std::int64_t> columns_;  // first column -> the one after the last
  std::int64_t held_ = 0;
};

}  // namespace

std::string tiling_problem(const TensorEntry& tensor) {
  const std::vector<BoxEntry>& boxes = tensor.boxes;
  if (tensor.shape.num_elements() == 0) return boxes.empty() ? "" : "a box of a tensor without elements";
  for (const BoxEntry& b : boxes) {
    if (b.part.empty() || !is_inside(b.part, tensor.shape))
      return fmt::format("a box of {} rows from row {} and {} columns from column {} of {}", b.part.num_rows,
                         b.part.first_row, b.part.num_columns, b.part.first_column, to_string(tensor.shape));
    if (&b != boxes.data() && before(b, *(&b - 1)))
      return fmt::format("{} behind boxes that begin later", to_text(b.part, tensor.shape));
  }
  std::vector<std::size_t> by_end(boxes.size());
  std::iota(by_end.begin(), by_end.end(), std::size_t{0});
  const auto end_of = [&](std::size_t i) { return boxes[i].part.end_row(); };
  std::sort(by_end.begin(), by_end.end(), [&](std::size_t a, std::size_t b) { return end_of(a) < end_of(b); });

  const std::int64_t rows = tensor.shape[0], columns = columns_of(tensor.shape);
  Active active;
  std::size_t begun = 0, ended = 0;
  for (std::int64_t row = 0; row < rows;) {
    for (; ended < boxes.size() && end_of(by_end[ended]) == row; ++ended) active.remove(boxes[by_end[ended]].part);
    for (; begun < boxes.size() && boxes[begun].part.first_row == row; ++begun)
      if (!active.add(boxes[begun].part))
        return fmt::format("some of {} are in two boxes", to_text(boxes[begun].part, tensor.shape));
    if (active.held() != columns) return fmt::format("column {} of row {} is in no box", active.first_missing(), row);
    row = end_of(by_end[ended]);  // of a box that holds this row
    if (begun < boxes.size()) row = std::min(row, boxes[begun].part.first_row);
  }
  return "";
}

}  // namespace fourmi
