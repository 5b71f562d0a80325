// The tensors among an operation's arguments, whatever it is: for devices that tests put behind the doors.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/ops/operations.h"

namespace fourmi::test {

/// Calls f(Tensor&) for every tensor of an argument.
template <class F, class T>
void visit_tensors(T&, const F&) {}
template <class F>
void visit_tensors(Tensor& t, const F& f) {
  f(t);
}
/// Elements of a device have room for whole groups, more than their shape says (kernels/ops/column_scaled.h).
template <class F>
void visit_tensors(ColumnScaled& c, const F& f) {
  Tensor &elements = c.elements_MK, room = elements;
  if (elements && c.scales_GK)
    room.shape = {std::max(elements.num_elements(), c.scales_GK.num_elements() * c.group_rows)};
  f(room), f(c.scales_GK);
  elements.data = room.data, elements.device = room.device;
}
template <class F>
void visit_tensors(ExpertLeaves& e, const F& f) {
  f(e.experts_MK);
}
template <class F>
void visit_tensors(CopyPlaces& p, const F& f) {
  f(p.rank_TC), f(p.row_TC);
}
template <class F>
void visit_tensors(HeadNorm& n, const F& f) {
  f(n.q_weight_Q), f(n.k_weight_Q), f(n.rstd_MN);
}

/// A copy of an argument whose tensors may be changed, and what the operation is given in its place.
template <class T>
struct Held {
  T value;
  explicit Held(const T& v) : value(v) {}
  template <class F>
  void visit(const F& f) {
    visit_tensors(value, f);
  }
  T& get() { return value; }
};
template <>
struct Held<std::span<const Tensor>> {
  std::vector<Tensor> values;
  explicit Held(std::span<const Tensor> v) : values(v.begin(), v.end()) {}
  template <class F>
  void visit(const F& f) {
    for (Tensor& t : values) f(t);
  }
  std::span<const Tensor> get() { return values; }
};

}  // namespace fourmi::test
