// Gradients of the same micro-batches in two precisions, compared: of each linear map's a fixed sample of elements, so
// that the memory is small. Sums are exact and the sample does not depend on who holds what: every rank finds the same
// figures, and in mode layout every layout does.
#pragma once

#include <vector>

#include "framework/train/map_names.h"
#include "framework/train/optimizer.h"
#include "parallel/group.h"

namespace fourmi {

class GradientSamples {
 public:
  /// Elements of a parameter that are looked at, at most; of a routed expert's less, for there are many of them.
  static constexpr std::int64_t most = 1024, most_of_expert = 128;

  /// Of the gradients that `optimizer`, which outlives it, will own on this rank. `whole`: the whole model's table.
  GradientSamples(const ParameterTable& whole, const Optimizer& optimizer, DType accumulate, Arena& arena);

  /// Of the optimizer's summed gradients: what others are compared with.
  void take_reference(const Stream&);
  /// |g - reference| / |reference| of all; infinite where g is not finite, NaN where the reference is not. Collective.
  double gap(const Stream&, Group& world);

  const MapNames& maps() const { return maps_; }

 private:
  template <class Visit>
  void visit(const Parameter& p, std::int64_t first_row, std::int64_t num_rows, const Visit& visit) const;
  void take(const Stream&, const Tensor& into);
  const Optimizer& optimizer_;
  MapNames maps_;
  Tensor reference_, gradient_;
};

}  // namespace fourmi
