#include "parallel/watchdog_hang.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <vector>

namespace fourmi::watchdog {
namespace {

using std::chrono::milliseconds;

std::string duration_text(milliseconds t) {
  if (t.count() < 10'000) return fmt::format("{:.1f} s", static_cast<double>(t.count()) / 1000);
  if (t.count() < 600'000) return fmt::format("{} s", t.count() / 1000);
  return fmt::format("{} min", t.count() / 60'000);
}

std::string call_text(const WaitingCall& call) {
  return fmt::format("{} {} of group {}", name_of(call.call), call.number, call.group);
}

template <class Holds>
std::vector<int> those(std::span<const RankView> ranks, Holds holds) {
  std::vector<int> found;
  for (std::size_t r = 0; r < ranks.size(); ++r)
    if (!ranks[r].gone && holds(ranks[r])) found.push_back(static_cast<int>(r));
  return found;
}

/// "; ranks 0, 1 and 3 wait in all_gather 57 of group world": calls of all but `missing`, at most three different ones.
std::string who_waits(std::span<const RankView> ranks, std::span<const int> missing) {
  std::vector<WaitingCall> told;
  std::string text;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const WaitingCall& call = ranks[r].call;
    const auto is_missing = [&](int rank) { return std::find(missing.begin(), missing.end(), rank) != missing.end(); };
    if (ranks[r].gone || call.call == Call::none || is_missing(static_cast<int>(r)) ||
        std::find(told.begin(), told.end(), call) != told.end())
      continue;
    std::vector<int> same = those(ranks, [&](const RankView& v) { return v.call == call; });
    std::erase_if(same, is_missing);
    text += fmt::format("; {} wait{} in {}", rank_list(same), same.size() == 1 ? "s" : "", call_text(call));
    told.push_back(call);
    if (told.size() == 3) return text + "; others elsewhere";
  }
  return text;
}

/// Those whose call is an earlier one than another rank's of the same group.
std::vector<int> those_behind(std::span<const RankView> ranks) {
  return those(ranks, [&](const RankView& v) {
    return std::any_of(ranks.begin(), ranks.end(), [&](const RankView& o) {
      return !o.gone && o.call.group == v.call.group && o.call.number > v.call.number;
    });
  });
}

}  // namespace

std::string rank_list(std::span<const int> ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t first = 0; first < ranks.size();) {
    std::size_t last = first;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (first > 0) text += ", ";
    text += last - first >= 2 ? fmt::format("{}-{}", ranks[first], ranks[last])
            : last > first    ? fmt::format("{}, {}", ranks[first], ranks[last])
                              : fmt::format("{}", ranks[first]);
    first = last + 1;
  }
  return text;
}

HangVerdict explain_hang(std::span<const RankView> ranks, milliseconds limit) {
  std::vector<int> missing = those(ranks, [](const RankView& v) { return v.silent; });
  std::string found;
  if (!missing.empty()) {
    const RankView& first = ranks[static_cast<std::size_t>(missing[0])];
    found = fmt::format("{} {} not run (no sign of life for {}; stopped, or the host is)", rank_list(missing),
                        missing.size() == 1 ? "does" : "do", duration_text(first.since));
    if (first.call.call != Call::none) found += fmt::format(", last seen in {}", call_text(first.call));
  } else if (missing = those(ranks, [](const RankView& v) { return v.call.call == Call::none; }); !missing.empty()) {
    found = fmt::format("{} got no further for {}, in no call of a group", rank_list(missing),
                        duration_text(ranks[static_cast<std::size_t>(missing[0])].since));
  } else if (missing = those_behind(ranks); !missing.empty()) {
    found = fmt::format("{} {} not come to the call that others wait in, but wait{} in {}", rank_list(missing),
                        missing.size() == 1 ? "has" : "have", missing.size() == 1 ? "s" : "",
                        call_text(ranks[static_cast<std::size_t>(missing[0])].call));
  } else {
    found = "all ranks wait for one another, and no message arrives";
  }
  HangVerdict verdict;
  if (!missing.empty()) verdict.rank = missing[0];
  verdict.cause = fmt::format("{}{}, expected some rank to get on within {}", found, who_waits(ranks, missing),
                              duration_text(limit));
  return verdict;
}

std::string to_beat(milliseconds idle, const WaitingCall& call) {
  return fmt::format("{} {} {} {}", idle.count(), static_cast<int>(call.call), call.number, call.group);
}

bool from_beat(const std::string& text, milliseconds& idle, WaitingCall& call) {
  long long idle_ms = 0, number = 0;
  int kind = 0, used = 0;
  if (std::sscanf(text.c_str(), "%lld %d %lld %n", &idle_ms, &kind, &number, &used) != 3) return false;
  if (kind < 0 || kind > static_cast<int>(Call::all_sum)) return false;
  idle = milliseconds(idle_ms);
  call = {static_cast<Call>(kind), text.substr(std::min(text.size(), static_cast<std::size_t>(used))), number};
  return true;
}

}  // namespace fourmi::watchdog
