#include "framework/telemetry/rank_clock.h"

#include <chrono>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>

#include "framework/run/host.h"

namespace fourmi {

namespace {

constexpr int rounds = 16, tag = 0;

std::int64_t steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

template <class T>
void send(Group& world, const T& value, int to) {
  world.start_send(std::as_bytes(std::span(&value, 1)), to, tag).wait();
}

template <class T>
T receive(Group& world, int from) {
  T value{};
  world.start_receive(std::as_writable_bytes(std::span(&value, 1)), from, tag).wait();
  return value;
}

struct Answer {
  std::int64_t time = 0;
  std::uint64_t machine = 0;  ///< 0: not known
};

std::uint64_t this_machine() {
  const std::string boot = this_process().boot;
  return boot.empty() ? 0 : std::hash<std::string>{}(boot) | 1;
}

/// On rank 0, of one other rank.
ClockReading ask(Group& world, int rank, std::uint64_t machine) {
  ClockReading best;
  std::int64_t shortest = std::numeric_limits<std::int64_t>::max();
  bool same_machine = false;
  for (int i = 0; i < rounds; ++i) {
    const std::int64_t begin = steady_now();
    send(world, begin, rank);
    const Answer answer = receive<Answer>(world, rank);
    const std::int64_t end = steady_now();
    same_machine = machine != 0 && answer.machine == machine;
    if (end - begin >= shortest) continue;
    shortest = end - begin;
    best = {answer.time, answer.time - (begin + shortest / 2), shortest / 2 + 1};
  }
  if (same_machine && std::abs(best.offset) <= best.error) best.offset = best.error = 0;
  return best;
}

}  // namespace

ClockReading read_clock(Group& world, std::int64_t ahead) {
  const std::uint64_t machine = this_machine();
  if (world.rank() == 0) {
    for (int r = 1; r < world.size(); ++r) send(world, ask(world, r, machine), r);
    return {steady_now(), 0, 0};
  }
  for (int i = 0; i < rounds; ++i) {
    receive<std::int64_t>(world, 0);
    send(world, Answer{steady_now() + ahead, machine}, 0);
  }
  return receive<ClockReading>(world, 0);
}

std::int64_t RankClock::on_first(std::int64_t time) const {
  const std::int64_t between = after.at - before.at;
  if (between <= 0 || after.offset == before.offset) return time - after.offset;
  const double share = static_cast<double>(time - before.at) / static_cast<double>(between);
  return time - before.offset - static_cast<std::int64_t>(share * static_cast<double>(after.offset - before.offset));
}

}  // namespace fourmi
