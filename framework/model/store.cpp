#include "framework/model/store.h"

#include <algorithm>
#include <cstring>

#include "kernels/numerics/random.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

namespace {

/// Magnitudes of activations below it share a scale as if there were one of it (DeepSeek's kernels do so). Not of
/// gradients: those of a sum over millions of tokens may well be smaller (docs/numerics.md).
constexpr float least_activation = 1e-4F;

}  // namespace

ModelTypes model_types(const PrecisionSection& precision, Reproducibility reproducibility) {
  const Compute compute = precision.compute;
  ModelTypes t;
  t.activation = compute == Compute::fp64 ? DType::f64 : compute == Compute::fp32 ? DType::f32 : DType::bf16;
  t.accumulate = accumulate_dtype(t.activation);
  t.gradient = reproducibility == Reproducibility::layout && compute != Compute::fp64 ? DType::fx128 : t.accumulate;
  t.operand = t.matrix = t.dispatched = t.activation;
  if (!is_fp8(compute)) return t;
  t.operand = DType::e4m3_rows, t.matrix = DType::e4m3_panels;
  if (compute == Compute::mxfp8) t.operand = t.matrix = DType::mxe4m3_rows;
  if (precision.dispatch == DispatchFormat::fp8) t.dispatched = t.operand;
  const bool any = precision.scale_format == ScaleFormat::fp32;
  t.activation_scaling = {.kind = any ? ScaleKind::f32 : ScaleKind::power_of_two, .floor = least_activation};
  t.gradient_scaling = t.weight_scaling = {.kind = t.activation_scaling.kind};
  t.column_scale = any ? ColumnScale::f32 : ColumnScale::power_of_two;
  if (precision.gradient_block == GradientBlock::square) t.gradient_over = ScaleOver::square;
  if (compute == Compute::fp8_tensor) {
    t.activation_over = t.gradient_over = t.weight_over = ScaleOver::tensor;
    t.column_scale = ColumnScale::largest;
  }
  return t;
}

ModelTypes ModelTypes::without_scales() const {
  ModelTypes t = *this;
  t.operand = t.matrix = t.dispatched = activation;
  t.activation_scaling = t.gradient_scaling = t.weight_scaling = {};
  t.activation_over = t.gradient_over = t.weight_over = ScaleOver::group;
  return t;
}

ParameterStore::ParameterStore(const ParameterTable& table, ModelTypes types, Arena& weights, Arena* gradients,
                               ZeroLevel level, MapWeights maps)
    : table_(&table), types_(types), types_without_scales_(types.without_scales()), level_(level), maps_(maps) {
  const std::pair<ParameterSet, const char*> sets[] = {{ParameterSet::matrices, "matrices"},
                                                       {ParameterSet::full_precision, "vectors and routers"},
                                                       {ParameterSet::router_bias, "router bias"}};
  for (auto [set, what] : sets) {
    const std::size_t i = index(set);
    const bool learned = set != ParameterSet::router_bias;
    regions_[i] = table.regions(set, by_layer(set, types, level));
    places_[i].resize(regions_[i].size());
    const std::int64_t num_weights = place(
        i, learned && level >= ZeroLevel::weights, [&](const Region& r) { return has_weight(r); }, &Place::weights);
    weights_[i] =
        weights.allocate({num_weights}, set == ParameterSet::matrices ? types.activation : types.accumulate, what);
    if (!gradients || !learned) continue;
    const std::int64_t num_gradients = place(
        i, level >= ZeroLevel::gradients, [](const Region&) { return true; }, &Place::gradients);
    gradients_[i] = gradients->allocate({num_gradients}, types.gradient, what);
  }
  if (types.scaled()) copies_.emplace(table, regions_[0], level >= ZeroLevel::weights, types.matrix, weights);
  if (weights.measuring()) return;
  for (const Parameter& p : table.all()) {
    if (p.padding == 0) continue;
    const Tensor padding = weight({p.set, p.offset, {p.local.num_elements() + p.padding}})
                               .rows(p.local.num_elements(), p.local.num_elements() + p.padding);
    const OnHost zeros(weights.runtime(), padding, OnHost::Use::fill);
    std::memset(zeros.tensor().data, 0, static_cast<std::size_t>(padding.bytes()));
    zeros.back();
  }
}

/// Regions that are there one after another; where layers take turns, theirs all behind the others. Returns the
/// elements of all.
template <class Has>
std::int64_t ParameterStore::place(std::size_t set, bool in_turn, const Has& has, std::int64_t Place::*where) {
  std::int64_t end = 0, largest = 0;
  const auto waits = [&](const Region& r) { return in_turn && r.layer >= 0; };
  for (std::size_t i = 0; i < regions_[set].size(); ++i) {
    const Region& r = regions_[set][i];
    if (!has(r)) {
      places_[set][i].*where = -1;
      continue;
    }
    if (waits(r)) {
      largest = std::max(largest, r.count());
      continue;
    }
    places_[set][i].*where = end;
    end += r.count();
  }
  for (std::size_t i = 0; i < regions_[set].size(); ++i)
    if (has(regions_[set][i]) && waits(regions_[set][i])) places_[set][i].*where = end;
  return end + largest;
}

std::size_t ParameterStore::region_of(ParameterSet set, std::int64_t offset) const {
  const std::vector<Region>& regions = regions_[index(set)];
  const auto after =
      std::partition_point(regions.begin(), regions.end(), [&](const Region& r) { return r.begin <= offset; });
  return static_cast<std::size_t>(after - regions.begin()) - 1;
}

Tensor ParameterStore::part(const Tensor& memory, const Slot& slot, std::int64_t Place::*where) const {
  const std::size_t r = region_of(slot.set, slot.offset), set = index(slot.set);
  FOURMI_CHECK(places_[set][r].*where >= 0, "weights of layer {} are in memory in eight bits alone",
               regions_[set][r].layer);
  const std::int64_t at = places_[set][r].*where + slot.offset - regions_[set][r].begin;
  return memory.rows(at, at + slot.shape.num_elements()).view(slot.shape);
}

Tensor ParameterStore::weights(const Region& r) const {
  return weight({r.set, r.begin, {r.count()}});
}
Tensor ParameterStore::gradients(const Region& r) const {
  return gradient({r.set, r.begin, {r.count()}});
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
