// Where a run is in its data. The loader has no other state: the same position gives the same following samples, on any
// number of ranks. It is in every checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fourmi {

struct SourcePosition {
  std::string name;
  std::int64_t epoch = 0;    ///< whole passes made
  std::int64_t index = 0;    ///< samples consumed in this pass
  std::int64_t samples = 0;  ///< samples consumed in all passes
  std::int64_t tokens = 0;   ///< input positions of those, without padding
  std::int64_t credit = 0;   ///< what the mixing rule owes this source (loader.h)
  std::int64_t bytes = 0;    ///< size and CRC-32 of the text that was read: a changed file is noticed at resume
  std::uint32_t checksum = 0;
  bool operator==(const SourcePosition&) const = default;
};

struct Position {
  std::int64_t samples = 0;  ///< consumed so far, over all sources
  std::int64_t tokens = 0;   ///< input positions of those, without padding; it decides the batch size of a ramp
  std::vector<SourcePosition> sources;
  bool operator==(const Position&) const = default;
};

/// One line of JSON; equal positions give equal bytes.
std::string to_json(const Position& position);
/// Throws Error(input) at `place` for anything that to_json does not write.
Position position_from_json(std::string_view json, const std::string& place);

}  // namespace fourmi
