// The traffic meter: calls of a group and the bytes with which they leave this rank. Each group counts its own
// (Group::traffic); a step's are the difference between its end and its beginning. What a step should have is predicted
// from the recipe by formula (framework/train/traffic.h), and tests hold the two against each other.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "parallel/calls.h"

namespace fourmi {

class Group;
class RankGroups;

struct Traffic {
  std::int64_t calls = 0, bytes = 0;
  bool operator==(const Traffic&) const = default;
};
/// By Call. A sum or maximum is one call, however it travels; a receive sends nothing.
using TrafficByCall = std::array<Traffic, num_calls>;

struct GroupTraffic {
  std::string group;  ///< as RankGroups names it
  int size = 1;
  TrafficByCall by_call{};
  Traffic total() const;
  bool operator==(const GroupTraffic&) const = default;
};

/// The groups of a rank that have other members, each once.
class TrafficMeter {
 public:
  /// `groups` outlives it.
  explicit TrafficMeter(const RankGroups& groups);
  void begin_step();
  void end_step();
  /// Of the last step.
  const std::vector<GroupTraffic>& step() const { return step_; }

 private:
  std::vector<const Group*> groups_;
  std::vector<TrafficByCall> before_;
  std::vector<GroupTraffic> step_;
};

/// "tensor: all_gather 12 calls, 4096 bytes" and the like, a line a group and kind.
std::string to_text(const std::vector<GroupTraffic>& traffic);

}  // namespace fourmi
