// `fourmi bench comm`: what the world's group moves, beside what a copy in memory moves.
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>

#include "launch/bench/bench.h"
#include "parallel/world.h"

namespace fourmi::bench {

namespace {

using Clock = std::chrono::steady_clock;

struct Row {
  std::string what;
  std::size_t bytes = 0;  ///< that a rank sends to each other rank; 0: no data
  Spread seconds;
  double moved = 0;  ///< bytes a second, of what this rank sends and receives
};

/// Repeats `operation` on all ranks for the same number of times, chosen by rank 0's clock.
Spread repeat(Group& group, double seconds, const std::function<void()>& operation) {
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  for (std::int64_t go = 1; go != 0;) {
    const int batch = times.empty() ? 1 : 8;
    for (int i = 0; i < batch; ++i) {
      group.barrier();
      const Clock::time_point begin = Clock::now();
      operation();
      times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
    go = std::chrono::duration<double>(Clock::now() - start).count() < seconds;
    group.broadcast(std::as_writable_bytes(std::span(&go, 1)), 0);
  }
  return spread_of(std::move(times));
}

std::vector<Row> measure(Group& group, double seconds) {
  std::vector<Row> rows;
  rows.push_back({"barrier", 0, repeat(group, seconds, [&] { group.barrier(); }), 0});
  std::int64_t one = 1;
  rows.push_back({"all_max", 8, repeat(group, seconds, [&] { group.all_max(std::span(&one, 1)); }), 0});
  const auto n = static_cast<std::size_t>(group.size());
  for (std::size_t bytes : {std::size_t{4} << 10, std::size_t{256} << 10, std::size_t{8} << 20}) {
    std::vector<std::byte> send(bytes * n), recv(bytes * n);
    const std::vector<std::size_t> counts(n, bytes);
    const double moved = 2.0 * static_cast<double>(bytes) * static_cast<double>(n - 1);
    const auto add = [&](const char* what, double traffic, const std::function<void()>& operation) {
      const Spread s = repeat(group, seconds, operation);
      rows.push_back({what, bytes, s, traffic / s.median});
    };
    add("all_to_all", moved, [&] { group.all_to_all(send, counts, recv, counts); });
    add("all_gather", moved, [&] { group.all_gather(std::span(send).first(bytes), recv); });
    // A copy reads and writes, as a message does.
    add("memcpy", 2.0 * static_cast<double>(bytes), [&] { std::memcpy(recv.data(), send.data(), bytes); });
  }
  return rows;
}

void print(const std::vector<Row>& rows, int ranks, bool json) {
  if (json) {
    nlohmann::ordered_json j;
    j["ranks"] = ranks;
    for (const Row& r : rows)
      j["operations"].push_back({{"name", r.what},
                                 {"bytes", r.bytes},
                                 {"median_seconds", r.seconds.median},
                                 {"low_seconds", r.seconds.low},
                                 {"high_seconds", r.seconds.high},
                                 {"bytes_per_second", r.moved}});
    std::cout << j << "\n";
    return;
  }
  std::cout << fmt::format(
      "{} rank(s); times of rank 0; GB/s: what a rank sends and receives (memcpy: reads and writes)\n", ranks);
  std::cout << fmt::format("{:<12} {:>12} {:>12} {:>24} {:>8}\n", "operation", "bytes", "median us", "spread us",
                           "GB/s");
  for (const Row& r : rows)
    std::cout << fmt::format("{:<12} {:>12} {:>12.1f} {:>11.1f} .. {:>9.1f} {:>8.2f}\n", r.what, r.bytes,
                             r.seconds.median * 1e6, r.seconds.low * 1e6, r.seconds.high * 1e6, r.moved * 1e-9);
}

}  // namespace

void run_comm(const CommOptions& options) {
  World world;
  const std::vector<Row> rows = measure(world.group(), options.seconds);
  if (world.rank() == 0) print(rows, world.size(), options.json);
  world.group().barrier();
}

}  // namespace fourmi::bench
