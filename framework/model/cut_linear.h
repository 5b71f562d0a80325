// Linear maps whose weight is cut over the tensor axis (Shoeybi et al. 2019, section 3): a weight cut by rows makes a
// part of the columns of every row, one cut by columns makes a part of each row's sum, and the ranks' sums are added
// where their rows belong.
#pragma once

#include <array>

#include "framework/model/products.h"
#include "kernels/ops/copy.h"

namespace fourmi {

/// y_mN = residual_mN + the sum over ranks of x_MK w_NK^T, where K is what this rank holds of the summed dim, in
/// `leaves` leaves.
inline void sum_of_linear(const Context& c, const Tensor& x_MK, const Tensor& w_NK, std::int64_t leaves,
                          const Tensor& y_mN, const Tensor& residual_mN = {}) {
  RowExchange::Moves moves = c.moves();
  const Tensor partial = moves.partial(y_mN);
  linear_forward(*c.stream, x_MK, w_NK, partial, moves.alone() ? residual_mN : Tensor{}, leaves);
  moves.sum(partial, y_mN, residual_mN);
  moves.finish();
}

/// dx_mK = the sum over ranks of dy_MN w_NK, where N is what this rank holds.
inline void sum_of_linear_backward(const Context& c, const Tensor& dy_MN, const Slot& w, std::int64_t leaves,
                                   const Tensor& dx_mK, const Meanwhile& meanwhile = {}) {
  RowExchange::Moves moves = c.moves();
  const Tensor partial = moves.partial(dx_mK);
  input_gradient(c, dy_MN, w, partial, {}, leaves);
  moves.sum(partial, dx_mK);
  moves.finish(meanwhile);
}

/// The same for a weight that is several ones below each other, of `rows` each, where their sums are kept apart
/// (Leaves::apart); else as one.
inline void sum_of_linears_backward(const Context& c, const Tensor& dy_MN, const Slot& w,
                                    std::initializer_list<std::int64_t> rows, std::int64_t leaves, const Tensor& dx_mK,
                                    const Meanwhile& meanwhile = {}) {
  if (!c.leaves.apart) {
    sum_of_linear_backward(c, dy_MN, w, leaves, dx_mK, meanwhile);
    return;
  }
  RowExchange::Moves moves = c.moves();
  std::array<Tensor, 4> partials;
  std::size_t count = 0;
  std::int64_t first = 0;
  for (const std::int64_t n : rows) {
    const Tensor dy_Mn = c.rows->part({dy_MN.dim(0), n}, dy_MN.dtype);
    copy_columns(*c.stream, dy_MN, first, dy_Mn, 0, n);
    partials.at(count) = moves.partial_of_several(dx_mK);
    input_gradient(c, dy_Mn, w.rows(first, first + n), partials[count++], {}, leaves);
    first += n;
  }
  moves.sum(std::span(partials).first(count), dx_mK);
  moves.finish(meanwhile);
}

/// Every rank's rows: `mine` itself where this rank is alone.
inline Tensor gathered(const Context& c, const Tensor& mine_mD, const Tensor& all_MD, const Meanwhile& meanwhile = {}) {
  RowExchange::Moves moves = c.moves();
  const Tensor all = moves.gather(mine_mD, all_MD);
  moves.finish(meanwhile);
  return all;
}

}  // namespace fourmi
