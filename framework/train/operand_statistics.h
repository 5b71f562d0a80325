// What products of eight bits read, beside what they would read in bf16: by linear map and role the largest magnitude,
// how many elements saturate or underflow, and the relative error. Sums are exact, so that every rank finds the same
// figures.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "framework/model/operand_check.h"
#include "framework/train/map_names.h"
#include "framework/train/precision_gap.h"
#include "parallel/group.h"

namespace fourmi {

struct OperandFigures {
  double amax = 0;
  double saturated = 0, underflows = 0;  ///< shares of the elements
  double regrouped = 0;                  ///< share that changes on the way from rows to columns
  double error = 0;                      ///< |x - as it is read| / |x|; infinite: something of it is not finite
};

class OperandStatistics : public OperandCheck {
 public:
  enum class Role : std::uint8_t { activation, gradient, weight };
  static constexpr std::array roles{"activation", "gradient", "weight"};

  /// `held`: the table of what this rank holds; it and `maps` outlive it.
  OperandStatistics(const MapNames& maps, const ParameterTable& held, const ModelTypes& types, Arena& arena);

  void begin();
  Tensor exact_rows(std::int64_t rows, std::int64_t columns) override;
  void compare(const Stream&, const Slot& w, OperandRole role, const Tensor& exact, const Tensor& read) override;
  void add_regrouped(const Slot& w, OperandRole role, std::int64_t elements, std::int64_t changed) override;
  bool wants_weight(const Slot& w) override;
  void compare_weight(const Stream&, const Slot& w, const Tensor& weight, const Tensor& matrix) override;
  /// Over all ranks. Collective.
  void finish(Group& world);
  /// Of a map; one of those that are read together (gate_proj and up_proj) stands for them.
  bool has(std::size_t map) const { return of(map, Role::activation).elements + of(map, Role::gradient).elements > 0; }
  OperandFigures figures(std::size_t map, Role role) const;
  std::size_t num_maps() const { return sums_.size() / roles.size(); }

 private:
  struct Sums {
    std::int64_t elements = 0, saturated = 0, underflows = 0, bad = 0;
    std::int64_t in_columns = 0, changed = 0;
    double amax = 0;
    int128 squared_error = 0, squares = 0;
  };
  const Sums& of(std::size_t map, Role role) const {
    return sums_[map * roles.size() + static_cast<std::size_t>(role)];
  }
  Sums& of(std::size_t map, Role role) { return sums_[map * roles.size() + static_cast<std::size_t>(role)]; }
  std::size_t map_at(const Slot& w) const;
  void add(const Stream&, Sums& sums, const Tensor& exact, const Tensor& read);

  DType exact_;
  struct At {
    std::int64_t offset;
    std::size_t map;
  };
  std::vector<At> maps_;  // of the matrices that this rank holds, ascending
  std::vector<Sums> sums_;
  std::vector<std::int64_t> counts_;  // for their sums over ranks
  std::vector<double> largest_;
  std::vector<int128> squares_;
  Tensor rows_, floats_;
};

/// A line of precision.jsonl.
std::string to_json_line(const PrecisionFigures& figures, std::int64_t launch, const MapNames& maps,
                         const OperandStatistics& statistics);

}  // namespace fourmi
