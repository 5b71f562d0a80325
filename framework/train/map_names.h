// The model's linear maps, each by one name; those of a layer's routed experts are one. The same list on all ranks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "framework/model/parameters.h"

namespace fourmi {

/// "model.layers.1.mlp.experts.gate_proj" of the weights of all experts of the layer.
std::string map_name(const Parameter& p);

class MapNames {
 public:
  /// `whole`: the table of the whole model.
  explicit MapNames(const ParameterTable& whole);

  struct Map {
    std::string name;
    std::int64_t layer = 0;
  };
  const std::vector<Map>& all() const { return maps_; }
  std::int64_t size() const { return std::ssize(maps_); }
  /// Of a parameter that is a linear map (Parameter::is_map).
  std::size_t index_of(const Parameter& p) const;

 private:
  std::vector<Map> maps_;
};

}  // namespace fourmi
