// A part of a tensor in the global index space: some rows (dim 0) of some columns (dim 1), further dims whole. A tensor
// of one dim has one column.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/numerics/digest.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Rows [first_row, first_row + num_rows) of columns [first_column, first_column + num_columns).
struct Rectangle {
  std::int64_t first_row = 0, num_rows = 0, first_column = 0, num_columns = 0;

  std::int64_t end_row() const { return first_row + num_rows; }
  std::int64_t end_column() const { return first_column + num_columns; }
  bool empty() const { return num_rows <= 0 || num_columns <= 0; }
};

/// Dim 1; 1 for a tensor of one dim.
std::int64_t columns_of(const Shape& tensor);
/// Elements at one row and one column: dims 2 and on.
std::int64_t cell_elements(const Shape& tensor);
Rectangle whole(const Shape& tensor);
/// Does it hold its rows whole? Then its elements are one range of the tensor's.
bool holds_whole_rows(const Rectangle& part, const Shape& tensor);
/// Is it inside the tensor? Computed without overflow, whatever the numbers.
bool is_inside(const Rectangle& part, const Shape& tensor);
/// May be empty.
Rectangle common_part(const Rectangle& a, const Rectangle& b);

/// The shape of the part's own data.
Shape shape_of(const Rectangle& part, const Shape& tensor);
/// Where its elements lie in the tensor. Not of an empty part.
ElementRuns runs_of(const Rectangle& part, const Shape& tensor);
/// "rows 2 to 3", or "rows 2 to 3, columns 0 to 7" where columns are cut; the last ones included.
std::string to_text(const Rectangle& part, const Shape& tensor);

}  // namespace fourmi
