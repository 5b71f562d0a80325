#include "launch/doctor/clock.h"

#include <cmath>
#include <span>

#include "framework/run/host.h"

namespace fourmi::doctor {

namespace {
constexpr int rounds = 8, tag = 0;
}

std::vector<double> clock_offsets(Group& group) {
  std::vector<double> offsets;
  if (group.rank() == 0) offsets.assign(static_cast<std::size_t>(group.size()), 0);
  for (int r = 1; r < group.size(); ++r) {
    if (group.rank() != 0 && group.rank() != r) continue;
    double best = INFINITY;
    for (int i = 0; i < rounds; ++i) {
      double theirs = 0;
      if (group.rank() == r) {
        group.start_receive(std::as_writable_bytes(std::span(&theirs, 1)), 0, tag).wait();
        theirs = now_seconds();
        group.start_send(std::as_bytes(std::span(&theirs, 1)), 0, tag).wait();
        continue;
      }
      const double begin = now_seconds();
      group.start_send(std::as_bytes(std::span(&begin, 1)), r, tag).wait();
      group.start_receive(std::as_writable_bytes(std::span(&theirs, 1)), r, tag).wait();
      const double end = now_seconds();
      if (end - begin >= best) continue;
      best = end - begin;
      offsets[static_cast<std::size_t>(r)] = theirs - (begin + end) / 2;
    }
  }
  return offsets;
}

}  // namespace fourmi::doctor
