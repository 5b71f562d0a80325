#include "framework/train/gradient_samples.h"

#include <cmath>
#include <limits>

#include "kernels/ops/reduce.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

namespace {

/// Odd, so that a sample runs through all columns of a matrix whose rows have an even number of elements.
std::int64_t stride_of(const Parameter& p) {
  const std::int64_t most = p.routed_expert ? GradientSamples::most_of_expert : GradientSamples::most;
  return (p.shape.num_elements() + most - 1) / most | 1;
}

}  // namespace

/// Calls visit(element of the rows, counted in the part that this rank holds).
template <class Visit>
void GradientSamples::visit(const Parameter& p, std::int64_t first_row, std::int64_t num_rows,
                            const Visit& visit) const {
  const std::int64_t stride = stride_of(p), columns = p.shape.num_elements() / p.shape[0],
                     mine = p.local.num_elements() / p.local[0], begin = p.first_row + first_row;
  for (std::int64_t i = (begin * columns + stride - 1) / stride * stride; i < (begin + num_rows) * columns;
       i += stride) {
    const std::int64_t row = i / columns - begin, column = i % columns - p.first_column;
    if (column >= 0 && column < mine) visit(row * mine + column);
  }
}

GradientSamples::GradientSamples(const ParameterTable& whole, const Optimizer& optimizer, DType accumulate,
                                 Arena& arena)
    : optimizer_(optimizer), maps_(whole) {
  std::int64_t end = 0;
  optimizer.visit_rows([&](const Parameter& p, std::int64_t first_row, std::int64_t num_rows) {
    if (p.is_map) visit(p, first_row, num_rows, [&](std::int64_t) { ++end; });
  });
  reference_ = arena.allocate({end}, accumulate, "sampled gradients");
  gradient_ = arena.allocate({end}, accumulate, "sampled gradients");
}

void GradientSamples::take(const Stream& stream, const Tensor& into) {
  const OnHost samples(stream, into, OnHost::Use::fill);
  const Tensor& to = samples.tensor();
  std::int64_t at = 0;
  const auto copy = [&](const Parameter& p, std::int64_t first_row, const Tensor& rows) {
    if (!p.is_map) return;
    const OnHost here(stream, rows);
    const Tensor& from = here.tensor();
    visit(p, first_row, rows.dim(0), [&](std::int64_t i) {
      if (from.dtype == DType::f64)
        to.as<double>()[at++] = from.as<double>()[i];
      else
        to.as<float>()[at++] = from.as<float>()[i];
    });
  };
  optimizer_.visit_gradients(std::ref(copy));
  samples.back();
}

void GradientSamples::take_reference(const Stream& stream) {
  take(stream, reference_);
}

double GradientSamples::gap(const Stream& stream, Group& world) {
  take(stream, gradient_);
  const auto subtract = [&]<class T>(T* x, const T* reference) {
    for (std::int64_t i = 0; i < gradient_.num_elements(); ++i) x[i] -= reference[i];
  };
  {
    const OnHost gradient(stream, gradient_, OnHost::Use::both), reference(stream, reference_);
    if (gradient_.dtype == DType::f64)
      subtract(gradient.tensor().as<double>(), static_cast<const double*>(reference.tensor().as<double>()));
    else
      subtract(gradient.tensor().as<float>(), static_cast<const float*>(reference.tensor().as<float>()));
    gradient.back();
  }
  double largest[2] = {max_abs(stream, reference_), max_abs(stream, gradient_)};
  for (double& x : largest)
    if (!std::isfinite(x)) x = std::numeric_limits<double>::infinity();
  world.all_max(std::span(largest));
  if (!std::isfinite(largest[0])) return std::nan("");
  if (!std::isfinite(largest[1])) return largest[1];
  if (largest[0] == 0) return largest[1] == 0 ? 0 : std::numeric_limits<double>::infinity();
  int exponents[2];
  for (int i = 0; i < 2; ++i) std::frexp(largest[i], &exponents[i]);
  int128 squares[2] = {sum_squares(stream, reference_, exponents[0]), sum_squares(stream, gradient_, exponents[1])};
  world.all_sum(std::span(squares));
  return norm_from(squares[1], exponents[1]) / norm_from(squares[0], exponents[0]);
}

}  // namespace fourmi
