#include "launch/doctor/examination.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace fourmi::doctor {

namespace {

constexpr double most_skew = 1.0;  // seconds; NTP keeps milliseconds

std::string place_of(std::size_t rank, const std::vector<std::string>& hosts) {
  return hosts.size() == 1 ? "" : fmt::format("rank {} on {}: ", rank, hosts[rank]);
}

void add_findings(Examination& e, const std::vector<Facts>& ranks) {
  std::vector<std::string> said;
  for (std::size_t r = 0; r < ranks.size(); ++r)
    for (const Fact& f : ranks[r]) {
      if (f.verdict == Verdict::fine) continue;
      const std::string what = fmt::format("{} {}: {}", f.group, f.name, f.value);
      const std::string once = e.hosts[r] + what;
      if (std::find(said.begin(), said.end(), once) != said.end()) continue;
      said.push_back(once);
      e.complaints.push_back({f.verdict, place_of(r, e.hosts) + what, f.remedy});
    }
}

void add_differences(Examination& e) {
  for (const Difference& d : e.differences) {
    const bool must = d.agree == Agree::must;
    const char* remedy =
        d.group == "file" ? "All ranks must read the same bytes: copy the file anew, or put it where all see it"
        : must            ? "All ranks must run the same build with the same libraries: install it anew on the odd one"
                          : "Bits are the same as long as build and libraries are; speed is that of the slowest rank";
    e.complaints.push_back({must ? Verdict::problem : Verdict::note, to_text(d), remedy});
  }
}

void add_clocks(Examination& e, const std::vector<double>& offsets) {
  double largest = 0;
  for (std::size_t r = 0; r < offsets.size(); ++r) {
    largest = std::max(largest, std::abs(offsets[r]));
    if (std::abs(offsets[r]) < most_skew) continue;
    e.complaints.push_back({Verdict::note,
                            fmt::format("system clock: rank {} on {} is {:.1f} s {} rank 0's", r, e.hosts[r],
                                        std::abs(offsets[r]), offsets[r] > 0 ? "ahead of" : "behind"),
                            "Logs of hosts cannot be read beside each other: let NTP set the clocks"});
  }
  if (offsets.size() > 1) e.facts.push_back({"system", "clock skew", fmt::format("at most {:.1f} ms", largest * 1e3)});
}

std::string safe(const std::string& text) {  // for people: no control characters
  std::string out = text;
  std::replace_if(
      out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return out;
}

}  // namespace

std::size_t Examination::num_problems() const {
  return static_cast<std::size_t>(std::count_if(complaints.begin(), complaints.end(),
                                                [](const Complaint& c) { return c.verdict == Verdict::problem; }));
}

Examination examine(const std::vector<Facts>& ranks, const std::vector<std::string>& hosts,
                    const std::vector<double>& clock_offsets) {
  Examination e{ranks.at(0), hosts, compare(ranks, hosts), {}};
  add_findings(e, ranks);
  add_differences(e);
  add_clocks(e, clock_offsets);
  std::stable_sort(e.complaints.begin(), e.complaints.end(),
                   [](const Complaint& a, const Complaint& b) { return a.verdict > b.verdict; });
  return e;
}

std::string to_text(const Examination& e) {
  std::string text;
  std::string group;
  for (const Fact& f : e.facts) {
    text += fmt::format("{:<12} {:<24} {}\n", f.group == group ? "" : f.group, safe(f.name), safe(f.value));
    group = f.group;
  }
  if (e.hosts.size() > 1)
    text += fmt::format("{} ranks, {}\n", e.hosts.size(), e.differences.empty() ? "all alike" : "not all alike");
  for (const Complaint& c : e.complaints) {
    text += fmt::format("{}: {}\n", name_of(c.verdict), safe(c.text));
    if (!c.remedy.empty()) text += fmt::format("  {}\n", c.remedy);
  }
  if (e.num_problems() == 0) text += "nothing that training needs is missing\n";
  return text;
}

std::string to_json(const Examination& e) {
  using Json = nlohmann::ordered_json;
  Json json{{"ok", e.num_problems() == 0}, {"ranks", e.hosts.size()}, {"hosts", e.hosts}, {"facts", Json::array()}};
  for (const Fact& f : e.facts) {
    json["facts"].push_back(
        {{"group", f.group}, {"name", f.name}, {"value", f.value}, {"verdict", std::string(name_of(f.verdict))}});
    if (!f.remedy.empty()) json["facts"].back()["remedy"] = f.remedy;
  }
  json["differences"] = Json::array();
  for (const Difference& d : e.differences) {
    Json odd = Json::array();
    for (const OddRank& r : d.odd) odd.push_back({{"rank", r.rank}, {"host", r.host}, {"value", r.value}});
    json["differences"].push_back({{"group", d.group},
                                   {"name", d.name},
                                   {"problem", d.agree == Agree::must},
                                   {"usual", d.usual.empty() ? Json() : Json(d.usual)},
                                   {"odd", odd}});
  }
  json["complaints"] = Json::array();
  for (const Complaint& c : e.complaints)
    json["complaints"].push_back(
        {{"verdict", std::string(name_of(c.verdict))}, {"text", c.text}, {"remedy", c.remedy}});
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace fourmi::doctor
