// Linear maps whose weight is cut over the tensor axis (Shoeybi et al. 2019, section 3): a weight cut by rows makes a
// part of the columns of every row, one cut by columns makes a part of each row's sum, and the ranks' sums are added
// where their rows belong.
#pragma once

#include <array>

#include "framework/model/products.h"
#include "kernels/ops/copy.h"

namespace fourmi {

/// y_mN = residual_mN + the sum over ranks of x_MK w_NK^T, where K is what this rank holds of the summed dim, in
/// `leaves` leaves. Others' rows come first, so that they travel while this rank's own are computed: a row's bits do
/// not depend on those beside it. `make_own` makes x's own rows, where they are not there yet.
inline void sum_of_linear(const Context& c, const Tensor& x_MK, const Tensor& w_NK, std::int64_t leaves,
                          const Tensor& y_mN, const Tensor& residual_mN = {}, const Meanwhile& make_own = {}) {
  RowExchange::Moves moves = c.moves();
  if (moves.alone()) {
    make_own();
    return linear_forward(*c.stream, x_MK, w_NK, y_mN, residual_mN, leaves);
  }
  const RowExchange::Split x = c.rows->split(x_MK), partial = moves.partial_split(y_mN);
  if (x.before.dim(0) > 0) linear_forward(*c.stream, x.before, w_NK, partial.before, {}, leaves);
  if (x.behind.dim(0) > 0) linear_forward(*c.stream, x.behind, w_NK, partial.behind, {}, leaves);
  moves.sum_of_others(partial, y_mN, residual_mN);
  moves.finish([&] {
    make_own();
    linear_forward(*c.stream, x.own, w_NK, partial.own, {}, leaves);
  });
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

/// y_MN = x_MK w_NK^T of every rank's rows, in two halves: of this rank's own before the others' have come (nothing,
/// where this rank is alone), and of what is left.
inline void linear_of_own(const Context& c, const Tensor& mine_mK, const Tensor& w_NK, const Tensor& y_MN) {
  if (!c.moves().alone()) linear_forward(*c.stream, mine_mK, w_NK, c.rows->mine(y_MN));
}
inline void linear_of_others(const Context& c, const Tensor& x_MK, const Tensor& w_NK, const Tensor& y_MN) {
  if (c.moves().alone()) return linear_forward(*c.stream, x_MK, w_NK, y_MN);
  const RowExchange::Split x = c.rows->split(x_MK), y = c.rows->split(y_MN);
  if (x.before.dim(0) > 0) linear_forward(*c.stream, x.before, w_NK, y.before);
  if (x.behind.dim(0) > 0) linear_forward(*c.stream, x.behind, w_NK, y.behind);
}
/// Both, with the gathering between them. Returns every rank's rows: `mine` itself where this rank is alone.
inline Tensor linear_of_gathered(const Context& c, const Tensor& mine_mK, const Tensor& all_MK, const Tensor& w_NK,
                                 const Tensor& y_MN) {
  RowExchange::Moves moves = c.moves();
  const Tensor x_MK = moves.gather(mine_mK, all_MK);
  moves.finish([&] { linear_of_own(c, mine_mK, w_NK, y_MN); });
  linear_of_others(c, x_MK, w_NK, y_MN);
  return x_MK;
}

/// Every rank's rows: `mine` itself where this rank is alone.
inline Tensor gathered(const Context& c, const Tensor& mine_mD, const Tensor& all_MD, const Meanwhile& meanwhile = {}) {
  RowExchange::Moves moves = c.moves();
  const Tensor all = moves.gather(mine_mD, all_MD);
  moves.finish(meanwhile);
  return all;
}

}  // namespace fourmi
