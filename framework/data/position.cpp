#include "framework/data/position.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "kernels/runtime/error.h"

namespace fourmi {

std::string to_json(const Position& position) {
  nlohmann::ordered_json sources = nlohmann::ordered_json::array();
  for (const SourcePosition& s : position.sources)
    sources.push_back({{"name", s.name},
                       {"epoch", s.epoch},
                       {"index", s.index},
                       {"samples", s.samples},
                       {"tokens", s.tokens},
                       {"credit", s.credit},
                       {"bytes", s.bytes},
                       {"checksum", s.checksum}});
  return nlohmann::ordered_json{{"samples", position.samples}, {"tokens", position.tokens}, {"sources", sources}}
      .dump();
}

Position position_from_json(std::string_view json, const std::string& place) {
  try {
    const nlohmann::json parsed = nlohmann::json::parse(json);
    Position position;
    position.samples = parsed.at("samples").get<std::int64_t>();
    position.tokens = parsed.at("tokens").get<std::int64_t>();
    for (const nlohmann::json& s : parsed.at("sources"))
      position.sources.push_back({.name = s.at("name").get<std::string>(),
                                  .epoch = s.at("epoch").get<std::int64_t>(),
                                  .index = s.at("index").get<std::int64_t>(),
                                  .samples = s.at("samples").get<std::int64_t>(),
                                  .tokens = s.at("tokens").get<std::int64_t>(),
                                  .credit = s.at("credit").get<std::int64_t>(),
                                  .bytes = s.at("bytes").get<std::int64_t>(),
                                  .checksum = s.at("checksum").get<std::uint32_t>()});
    for (const SourcePosition& s : position.sources)
      if (s.epoch < 0 || s.index < 0 || s.samples < 0 || s.tokens < 0)
        throw Error(ExitStatus::input, place,
                    fmt::format("a negative position in source '{}', counts from 0 were expected", s.name));
    return position;
  } catch (const nlohmann::json::exception& failure) {
    throw Error(ExitStatus::input, place, fmt::format("{}, a data position was expected", failure.what()));
  }
}

}  // namespace fourmi
