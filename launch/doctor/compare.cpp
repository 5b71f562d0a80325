#include "launch/doctor/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

namespace fourmi::doctor {

namespace {

constexpr const char* not_told = "(not told)";

struct Key {
  std::string group, name;
  Agree agree;
};

/// Facts that any rank has, in the order in which they were first met.
std::vector<Key> keys_of(const std::vector<Facts>& ranks) {
  std::vector<Key> keys;
  for (const Facts& facts : ranks)
    for (const Fact& f : facts) {
      const bool known =
          std::any_of(keys.begin(), keys.end(), [&](const Key& k) { return k.group == f.group && k.name == f.name; });
      if (!known && f.agree != Agree::no) keys.push_back({f.group, f.name, f.agree});
    }
  return keys;
}

std::string value_of(const Facts& facts, const Key& key) {
  for (const Fact& f : facts)
    if (f.group == key.group && f.name == key.name) return f.value;
  return not_told;
}

}  // namespace

std::vector<Difference> compare(const std::vector<Facts>& ranks, const std::vector<std::string>& hosts) {
  std::vector<Difference> differences;
  for (const Key& key : keys_of(ranks)) {
    std::vector<std::string> values;
    std::map<std::string, int> votes;
    for (const Facts& facts : ranks) ++votes[values.emplace_back(value_of(facts, key))];
    if (votes.size() == 1) continue;
    const auto most =
        std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto as_many =
        std::count_if(votes.begin(), votes.end(), [&](const auto& v) { return v.second == most->second; });
    Difference d{key.group, key.name, key.agree, as_many == 1 ? most->first : "", {}};
    for (std::size_t r = 0; r < ranks.size(); ++r)
      if (d.usual.empty() || values[r] != d.usual) d.odd.push_back({static_cast<int>(r), hosts[r], values[r]});
    differences.push_back(std::move(d));
  }
  return differences;
}

std::string to_text(const Difference& d) {
  std::string odd;
  for (const OddRank& r : d.odd)
    odd += fmt::format("{}rank {} on {} has {}", odd.empty() ? "" : "; ", r.rank, r.host, r.value);
  return fmt::format("{} {}: {}{}", d.group, d.name, odd,
                     d.usual.empty() ? "" : fmt::format("; the others have {}", d.usual));
}

}  // namespace fourmi::doctor
