#include "launch/doctor/fact.h"

#include <fmt/format.h>

#include <cstdint>
#include <string_view>

#include "kernels/runtime/error.h"

namespace fourmi::doctor {

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::fine:
      return "fine";
    case Verdict::note:
      return "note";
    case Verdict::problem:
      return "problem";
  }
  return "?";
}

std::string bytes_text(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  for (; bytes >= 1023.5 && unit + 1 < std::size(units); ++unit) bytes /= 1024;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.3g} {}", bytes, units[unit]);
}

namespace {

void add(std::string& to, const std::string& part) {
  to += fmt::format("{}:", part.size()) + part;
}

std::string take(const std::string& text, std::size_t& at) {
  const std::size_t colon = text.find(':', at);
  FOURMI_CHECK(colon != std::string::npos, "facts of a rank end early");
  const std::size_t size = std::stoull(text.substr(at, colon - at));
  at = colon + 1 + size;
  FOURMI_CHECK(at <= text.size(), "facts of a rank end early");
  return text.substr(colon + 1, size);
}

}  // namespace

std::string pack(const Facts& facts) {
  std::string text;
  for (const Fact& f : facts) {
    for (const std::string* part : {&f.group, &f.name, &f.value, &f.remedy}) add(text, *part);
    add(text, fmt::format("{}{}", static_cast<int>(f.agree), static_cast<int>(f.verdict)));
  }
  return text;
}

Facts unpack(const std::string& text) {
  Facts facts;
  for (std::size_t at = 0; at < text.size();) {
    Fact f;
    for (std::string* part : {&f.group, &f.name, &f.value, &f.remedy}) *part = take(text, at);
    const std::string kinds = take(text, at);
    FOURMI_CHECK(kinds.size() == 2, "facts of a rank are damaged");
    f.agree = static_cast<Agree>(kinds[0] - '0');
    f.verdict = static_cast<Verdict>(kinds[1] - '0');
    facts.push_back(std::move(f));
  }
  return facts;
}

}  // namespace fourmi::doctor
