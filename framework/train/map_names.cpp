#include "framework/train/map_names.h"

#include <algorithm>

#include "kernels/runtime/error.h"

namespace fourmi {

std::string map_name(const Parameter& p) {
  std::string name = p.name;
  if (name.ends_with(".weight")) name.resize(name.size() - 7);
  if (!p.routed_expert) return name;
  // "...experts.<number>.gate_proj"
  const std::size_t number = name.find("experts.") + 8, end = name.find('.', number);
  return name.erase(number, end + 1 - number);
}

MapNames::MapNames(const ParameterTable& whole) {
  for (const Parameter& p : whole.all()) {
    if (!p.is_map) continue;
    std::string name = map_name(p);
    const auto same = [&](const Map& m) { return m.layer == p.layer && m.name == name; };
    if (std::none_of(maps_.begin(), maps_.end(), same)) maps_.push_back({std::move(name), p.layer});
  }
}

std::size_t MapNames::index_of(const Parameter& p) const {
  const std::string name = map_name(p);
  const auto at = std::find_if(maps_.begin(), maps_.end(), [&](const Map& m) { return m.name == name; });
  FOURMI_CHECK(at != maps_.end(), "{} is no linear map", p.name);
  return static_cast<std::size_t>(at - maps_.begin());
}

}  // namespace fourmi
