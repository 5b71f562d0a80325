#include "framework/train/guard_state.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "kernels/runtime/error.h"

namespace fourmi {

std::string to_json(const GuardState& s) {
  nlohmann::ordered_json left_out = nlohmann::ordered_json::array();
  for (const LeftOut& l : s.left_out) left_out.push_back({{"step", l.step}, {"first", l.first}, {"last", l.last}});
  nlohmann::ordered_json promoted = nlohmann::ordered_json::array();
  for (const Promotion& p : s.promoted) promoted.push_back({{"step", p.step}, {"layer", p.layer}});
  return nlohmann::ordered_json{
      {"num_good", s.history.num_good}, {"in_a_row", s.history.in_a_row}, {"log_norms", s.history.log_norms},
      {"losses", s.history.losses},     {"left_out", left_out},           {"promoted", promoted}}
      .dump();
}

GuardState guard_state_from_json(std::string_view json, const std::string& place) {
  try {
    const nlohmann::json j = nlohmann::json::parse(json);
    GuardState s;
    s.history.num_good = j.at("num_good").get<std::int64_t>();
    s.history.in_a_row = j.at("in_a_row").get<std::int64_t>();
    s.history.log_norms = j.at("log_norms").get<std::vector<double>>();
    s.history.losses = j.at("losses").get<std::vector<double>>();
    for (const nlohmann::json& l : j.at("left_out"))
      s.left_out.push_back(
          {l.at("step").get<std::int64_t>(), l.at("first").get<std::int64_t>(), l.at("last").get<std::int64_t>()});
    if (j.contains("promoted"))  // not in the first checkpoints
      for (const nlohmann::json& p : j["promoted"])
        s.promoted.push_back({p.at("step").get<std::int64_t>(), p.at("layer").get<std::int64_t>()});
    if (s.history.log_norms.size() != s.history.losses.size() || s.history.num_good < std::ssize(s.history.losses))
      throw Error(ExitStatus::input, place,
                  "a guard's history whose parts do not fit, expected as many norms as losses");
    return s;
  } catch (const nlohmann::json::exception& failure) {
    throw Error(ExitStatus::input, place, fmt::format("{}, a guard's state was expected", failure.what()));
  }
}

}  // namespace fourmi
