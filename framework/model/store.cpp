#include "framework/model/store.h"

#include <cstring>

#include "kernels/numerics/random.h"

namespace fourmi {

ModelTypes model_types(Compute compute, Reproducibility reproducibility) {
  ModelTypes t;
  t.activation = compute == Compute::fp64 ? DType::f64 : compute == Compute::fp32 ? DType::f32 : DType::bf16;
  t.accumulate = accumulate_dtype(t.activation);
  t.gradient = reproducibility == Reproducibility::layout && compute != Compute::fp64 ? DType::fx128 : t.accumulate;
  return t;
}

ParameterStore::ParameterStore(const ParameterTable& table, ModelTypes types, Arena& weights, Arena* gradients)
    : table_(&table), types_(types) {
  const std::pair<ParameterSet, const char*> sets[] = {{ParameterSet::matrices, "matrices"},
                                                       {ParameterSet::full_precision, "vectors and routers"},
                                                       {ParameterSet::router_bias, "router bias"}};
  for (auto [set, what] : sets) {
    const auto i = static_cast<std::size_t>(set);
    const std::int64_t n = table.num_elements(set);
    weights_[i] = weights.allocate({n}, set == ParameterSet::matrices ? types.activation : types.accumulate, what);
    if (gradients && set != ParameterSet::router_bias) gradients_[i] = gradients->allocate({n}, types.gradient, what);
  }
  if (weights.measuring()) return;
  for (const Parameter& p : table.all()) {
    const std::int64_t end = p.offset + p.local.num_elements();
    const Tensor padding = weights_[static_cast<std::size_t>(p.set)].rows(end, end + p.padding);
    std::memset(padding.data, 0, static_cast<std::size_t>(padding.bytes()));
  }
}

Slot ParameterStore::slot(std::string_view first, std::string_view last, Shape shape) const {
  const Parameter& a = table_->find(first);
  const Parameter& b = table_->find(last);
  FOURMI_CHECK(a.set == b.set && b.offset + b.local.num_elements() - a.offset == shape.num_elements(),
               "{} .. {} do not fill {}", first, last, to_string(shape));
  return {a.set, a.offset, shape};
}

Slot ParameterStore::padded_slot(std::string_view name) const {
  const Parameter& p = table_->find(name);
  return {p.set, p.offset, {p.local[0] + p.padding / p.local[1], p.local[1]}};
}

Tensor ParameterStore::part(const Tensor& flat, const Slot& slot) {
  return flat.rows(slot.offset, slot.offset + slot.shape.num_elements()).view(slot.shape);
}

void initialise_rows(const Parameter& p, std::uint64_t seed, double initializer_range, std::int64_t first_row,
                     const Tensor& x) {
  const std::int64_t row = p.shape.num_elements() / p.shape[0];
  if (p.initialisation == Initialisation::normal) {
    const auto key = random_key(seed, "initialise", p.name);
    const std::int64_t rows = x.dim(0), width = rows == 0 ? row : x.num_elements() / rows;
    const auto first = [&](std::int64_t i) {
      return static_cast<std::uint64_t>((p.first_row + first_row + i) * row + p.first_column);
    };
    if (width == row) {
      fill_normal(x, key, first(0), initializer_range);
    } else {
      for (std::int64_t i = 0; i < rows; ++i) fill_normal(x.rows(i, i + 1), key, first(i), initializer_range);
    }
    return;
  }
  const double value = p.initialisation == Initialisation::ones ? 1.0 : 0.0;
  const std::int64_t n = x.num_elements();
  if (x.dtype == DType::f64)
    std::fill_n(x.as<double>(), n, value);
  else if (x.dtype == DType::f32)
    std::fill_n(x.as<float>(), n, static_cast<float>(value));
  else
    std::fill_n(x.as<bfloat16>(), n, bfloat16(static_cast<float>(value)));
}

}  // namespace fourmi
