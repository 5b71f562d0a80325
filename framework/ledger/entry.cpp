#include "framework/ledger/entry.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <nlohmann/json.hpp>

#include "framework/digest/sha256.h"
#include "kernels/runtime/error.h"

namespace fourmi {

using nlohmann::json;

namespace {

/// nlohmann's maps are sorted and its compact form has no white space; strings that are no UTF-8 are replaced.
std::string canonical(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

bool is_deep(std::string_view text, int most) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > most) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

/// No fractions: two writers may spell them differently.
bool has_fraction(const json& value) {
  if (value.is_number_float()) return true;
  if (!value.is_structured()) return false;
  return std::any_of(value.begin(), value.end(), [](const json& part) { return has_fraction(part); });
}

json without_digest(const LedgerEntry& e, json payload) {
  return {{"index", e.index},
          {"payload", std::move(payload)},
          {"previous", e.previous.empty() ? json(nullptr) : json(e.previous)},
          {"time", e.time},
          {"type", e.type}};
}

json payload_of(std::string_view text) {
  json payload = is_deep(text, deepest_payload) ? json() : json::parse(text, nullptr, false);
  FOURMI_CHECK(payload.is_object() && !has_fraction(payload), "a ledger entry's payload {}", text);
  return payload;
}

bool is_text(const json& object, const char* key) {
  return object.contains(key) && object[key].is_string();
}

}  // namespace

LedgerEntry make_entry(const LedgerEntry* parent, std::string_view type, std::string_view payload,
                       std::string_view time) {
  LedgerEntry e;
  if (parent) {
    e.previous = parent->sha256;
    e.index = parent->index + 1;
  }
  e.type = type;
  e.time = time;
  // Through canonical text and back: strings that are no UTF-8 are replaced before the digest is taken.
  e.payload = canonical(payload_of(canonical(payload_of(payload))));
  e.sha256 = sha256(canonical(without_digest(e, payload_of(e.payload))));
  return e;
}

std::string to_line(const LedgerEntry& e) {
  json whole = without_digest(e, payload_of(e.payload));
  whole["sha256"] = e.sha256;
  return canonical(whole);
}

std::optional<LedgerEntry> parse_line(std::string_view line) {
  if (line.size() > most_line_bytes || is_deep(line, deepest_payload + 1)) return std::nullopt;
  const json j = json::parse(line, nullptr, false);
  if (!j.is_object() || j.size() != 6 || !is_text(j, "sha256") || !is_text(j, "type") || !is_text(j, "time"))
    return std::nullopt;
  if (!j.contains("index") || !j["index"].is_number_integer() || !j.contains("payload") || !j["payload"].is_object())
    return std::nullopt;
  if (has_fraction(j) || !j.contains("previous") || !(j["previous"].is_null() || is_text(j, "previous")))
    return std::nullopt;
  LedgerEntry e;
  e.sha256 = j["sha256"].get<std::string>();
  e.previous = j["previous"].is_null() ? std::string() : j["previous"].get<std::string>();
  e.index = j["index"].get<std::int64_t>();
  e.type = j["type"].get<std::string>();
  e.time = j["time"].get<std::string>();
  const bool root = e.previous.empty();
  if (e.index < 0 || root != (e.index == 0) || (!root && !is_sha256(e.previous)) || (root && !j["previous"].is_null()))
    return std::nullopt;
  e.payload = canonical(j["payload"]);
  if (canonical(j) != line || sha256(canonical(without_digest(e, j["payload"]))) != e.sha256) return std::nullopt;
  return e;
}

std::string short_digest(std::string_view sha256) {
  return std::string(sha256.substr(0, 12));
}

std::string name_of(const LedgerEntry& e) {
  return fmt::format("entry {} ({}, {})", e.index, e.type, short_digest(e.sha256));
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  return std::string(text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts));
}

}  // namespace fourmi
