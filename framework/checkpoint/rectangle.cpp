#include "framework/checkpoint/rectangle.h"

#include <algorithm>

namespace fourmi {

std::int64_t columns_of(const Shape& tensor) {
  return tensor.rank >= 2 ? tensor[1] : 1;
}

std::int64_t cell_elements(const Shape& tensor) {
  std::int64_t n = 1;
  for (int i = 2; i < tensor.rank; ++i) n *= tensor[i];
  return n;
}

Rectangle whole(const Shape& tensor) {
  return {0, tensor[0], 0, columns_of(tensor)};
}

bool holds_whole_rows(const Rectangle& part, const Shape& tensor) {
  return part.num_columns == columns_of(tensor);
}

bool is_inside(const Rectangle& part, const Shape& tensor) {
  const auto fits = [](std::int64_t first, std::int64_t num, std::int64_t size) {
    return first >= 0 && num >= 0 && first <= size && num <= size - first;
  };
  return fits(part.first_row, part.num_rows, tensor[0]) &&
         fits(part.first_column, part.num_columns, columns_of(tensor));
}

Rectangle common_part(const Rectangle& a, const Rectangle& b) {
  const std::int64_t row = std::max(a.first_row, b.first_row), column = std::max(a.first_column, b.first_column);
  return {row, std::max<std::int64_t>(0, std::min(a.end_row(), b.end_row()) - row), column,
          std::max<std::int64_t>(0, std::min(a.end_column(), b.end_column()) - column)};
}

Shape shape_of(const Rectangle& part, const Shape& tensor) {
  Shape shape = tensor;
  shape.dims[0] = part.num_rows;
  if (tensor.rank >= 2) shape.dims[1] = part.num_columns;
  return shape;
}

ElementRuns runs_of(const Rectangle& part, const Shape& tensor) {
  const std::int64_t cell = cell_elements(tensor), columns = columns_of(tensor);
  return {static_cast<std::uint64_t>((part.first_row * columns + part.first_column) * cell),
          static_cast<std::uint64_t>(part.num_columns * cell), static_cast<std::uint64_t>(columns * cell)};
}

std::string to_text(const Rectangle& part, const Shape& tensor) {
  std::string text = fmt::format("rows {} to {}", part.first_row, part.end_row() - 1);
  if (!holds_whole_rows(part, tensor))
    text += fmt::format(", columns {} to {}", part.first_column, part.end_column() - 1);
  return text;
}

}  // namespace fourmi
