// What a layer saves, for micro-batches of any number of rows up to the one that there is memory for.
#pragma once

#include <vector>

#include "framework/model/fields.h"

namespace fourmi {

template <class Layer>
class PrefixFields {
 public:
  using Saved = typename Layer::Saved;
  using Sizes = typename Layer::Sizes;

  void allocate(const Sizes& most, Arena& arena, std::string_view prefix) {
    allocate_fields(saved_, most, arena, prefix);
    whole_.clear();
    saved_.fields(most, [&](Tensor& t, std::string_view, const Shape&, DType, Keep) { whole_.push_back(t); });
  }
  bool allocated() const { return !whole_.empty(); }

  /// The same fields, each of a part of its memory: `sizes` has fewer rows, and else what `most` had.
  Saved& of(const Sizes& sizes) {
    std::size_t i = 0;
    saved_.fields(sizes, [&](Tensor& t, std::string_view name, const Shape& shape, DType dtype, Keep) {
      const Tensor& whole = whole_[i++];
      FOURMI_CHECK(whole.dtype == dtype && shape.num_elements() <= whole.num_elements(), "{}: more than there is",
                   name);
      t = whole.view({whole.num_elements()}).rows(0, shape.num_elements()).view(shape);
    });
    return saved_;
  }

 private:
  Saved saved_;
  std::vector<Tensor> whole_;
};

}  // namespace fourmi
