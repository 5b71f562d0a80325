#include "framework/train/operand_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels/numerics/fixed128.h"
#include "kernels/ops/quantize.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

namespace {

OperandStatistics::Role role_of(OperandRole role) {
  return role == OperandRole::activation ? OperandStatistics::Role::activation : OperandStatistics::Role::gradient;
}

/// A block's sum as an exact sum takes it: so large a one is past all bounds.
int128 fixed(double sum) {
  return to_fixed128(std::min(sum, 0x1p39));
}

}  // namespace

OperandStatistics::OperandStatistics(const MapNames& maps, const ParameterTable& held, const ModelTypes& types,
                                     Arena& arena)
    : exact_(types.activation) {
  std::int64_t widest = ScaledFormat::block;
  for (const Parameter& p : held.all()) {
    if (!p.is_map) continue;
    maps_.push_back({p.offset, maps.index_of(p)});
    // Rows of gradients are as wide as what is read together: at most four matrices of equal width.
    widest = std::max({widest, p.local[1], 4 * p.local[0]});
  }
  sums_.resize(static_cast<std::size_t>(maps.size()) * roles.size());
  counts_.resize(6 * sums_.size());
  largest_.resize(sums_.size());
  squares_.resize(2 * sums_.size());
  rows_ = arena.allocate({most_rows * widest}, exact_, "operands of the guard");
  floats_ = arena.allocate({most_rows * widest}, DType::f32, "operands of the guard");
}

void OperandStatistics::begin() {
  std::fill(sums_.begin(), sums_.end(), Sums{});
}

Tensor OperandStatistics::exact_rows(std::int64_t rows, std::int64_t columns) {
  return rows_.rows(0, rows * columns).view({rows, columns});
}

std::size_t OperandStatistics::map_at(const Slot& w) const {
  const auto at = std::lower_bound(maps_.begin(), maps_.end(), w.offset,
                                   [](const At& a, std::int64_t offset) { return a.offset < offset; });
  FOURMI_CHECK(at != maps_.end() && at->offset == w.offset, "an operand of what begins at {}", w.offset);
  return at->map;
}

/// Sums of the blocks of a row that share a scale are the same whoever has the row.
void OperandStatistics::add(const Stream& stream, Sums& sums, const Tensor& exact, const Tensor& read) {
  const std::int64_t rows = exact.dim(0), columns = exact.dim(1);
  const Tensor floats = floats_.rows(0, rows * columns).view({rows, columns});
  dequantize(stream, read, floats);
  const OnHost wanted(stream, exact), got(stream, floats), stored(stream, read);
  const auto* x = wanted.tensor().as<bfloat16>();
  const auto* y = got.tensor().as<float>();
  // Elements of a row come before its scales, those of a panel before its panel's.
  const std::int64_t stride = read.dtype == DType::e4m3_panels ? columns : ScaledFormat::row_bytes(read.dtype, columns);
  const auto* bytes = static_cast<const std::uint8_t*>(stored.tensor().data);
  sums.elements += rows * columns;
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t begin = 0; begin < columns; begin += ScaledFormat::block) {
      double error = 0, squares = 0, amax = 0;
      for (std::int64_t k = begin; k < std::min(columns, begin + ScaledFormat::block); ++k) {
        const double a = static_cast<double>(static_cast<float>(x[row * columns + k])),
                     b = static_cast<double>(y[row * columns + k]);
        error += (b - a) * (b - a), squares += a * a;
        amax = std::max(amax, std::abs(a));
        sums.underflows += a != 0 && b == 0;
        sums.saturated += (bytes[row * stride + k] & 0x7f) == 0x7e;  // 448
      }
      if (!std::isfinite(squares)) continue;  // not the fault of who quantised it
      sums.amax = std::max(sums.amax, amax);
      if (std::isfinite(error))
        sums.squared_error += fixed(error), sums.squares += fixed(squares);
      else
        ++sums.bad;
    }
}

void OperandStatistics::compare(const Stream& stream, const Slot& w, OperandRole role, const Tensor& exact,
                                const Tensor& read) {
  const OwningSpan span(stream.timeline(), Work::other, "compare_operand");
  add(stream, of(map_at(w), role_of(role)), exact, read);
}

void OperandStatistics::add_regrouped(const Slot& w, OperandRole role, std::int64_t elements, std::int64_t changed) {
  Sums& sums = of(map_at(w), role_of(role));
  sums.in_columns += elements, sums.changed += changed;
}

bool OperandStatistics::wants_weight(const Slot& w) {
  return of(map_at(w), Role::weight).elements == 0;
}

void OperandStatistics::compare_weight(const Stream& stream, const Slot& w, const Tensor& weight,
                                       const Tensor& matrix) {
  const OwningSpan span(stream.timeline(), Work::other, "compare_operand");
  Sums& sums = of(map_at(w), Role::weight);
  const std::int64_t K = w.shape[w.shape.rank - 1], N = w.shape[w.shape.rank - 2], E = w.shape.num_elements() / (N * K);
  const auto one = [&](const Tensor& all, std::int64_t e) {
    return w.shape.rank == 2 ? all : all.rows(e, e + 1).view({N, K});
  };
  for (std::int64_t e = 0; e < E; ++e)
    for (std::int64_t begin = 0; begin < N; begin += most_rows) {
      const std::int64_t end = std::min(N, begin + most_rows);
      add(stream, sums, one(weight, e).rows(begin, end), one(matrix, e).rows(begin, end));
    }
}

void OperandStatistics::finish(Group& world) {
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    const Sums& s = sums_[i];
    const std::int64_t counts[] = {s.elements, s.saturated, s.underflows, s.bad, s.in_columns, s.changed};
    std::copy(std::begin(counts), std::end(counts), counts_.begin() + static_cast<std::ptrdiff_t>(6 * i));
    largest_[i] = s.amax;
    squares_[2 * i] = s.squared_error, squares_[2 * i + 1] = s.squares;
  }
  world.all_sum(std::span(counts_));
  world.all_max(std::span(largest_));
  world.all_sum(std::span(squares_));
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    const std::int64_t* counts = &counts_[6 * i];
    sums_[i] = {counts[0], counts[1],   counts[2],       counts[3],          counts[4],
                counts[5], largest_[i], squares_[2 * i], squares_[2 * i + 1]};
  }
}

OperandFigures OperandStatistics::figures(std::size_t map, Role role) const {
  const Sums& s = of(map, role);
  const double n = static_cast<double>(std::max<std::int64_t>(1, s.elements));
  OperandFigures f{s.amax, static_cast<double>(s.saturated) / n, static_cast<double>(s.underflows) / n};
  if (s.in_columns > 0) f.regrouped = static_cast<double>(s.changed) / static_cast<double>(s.in_columns);
  if (s.squares > 0) f.error = std::sqrt(static_cast<double>(s.squared_error) / static_cast<double>(s.squares));
  if (s.bad > 0) f.error = std::numeric_limits<double>::infinity();
  return f;
}

std::string to_json_line(const PrecisionFigures& figures, std::int64_t launch, const MapNames& maps,
                         const OperandStatistics& statistics) {
  nlohmann::ordered_json j{{"step", figures.step},
                           {"launch", launch},
                           {"loss_gap", figures.loss_gap},
                           {"gradient_gap", figures.gradient_gap}};
  for (std::size_t i = 0; i < maps.all().size(); ++i) {
    if (!statistics.has(i)) continue;
    nlohmann::ordered_json& map = j["maps"][maps.all()[i].name];
    for (std::size_t r = 0; r < OperandStatistics::roles.size(); ++r) {
      const OperandFigures f = statistics.figures(i, static_cast<OperandStatistics::Role>(r));
      map[OperandStatistics::roles[r]] = {{"amax", f.amax},
                                          {"saturated", f.saturated},
                                          {"underflows", f.underflows},
                                          {"regrouped", f.regrouped},
                                          {"error", f.error}};
    }
  }
  return j.dump();
}

}  // namespace fourmi
