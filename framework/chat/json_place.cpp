#include "framework/chat/json_place.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace fourmi {
namespace {

/// Steps over valid JSON without reading it. At the text's end it stays there.
class Walker {
 public:
  explicit Walker(std::string_view json) : json_(json) { space(); }

  std::size_t at() const { return at_; }
  bool opens(char c) const { return at_ < json_.size() && json_[at_] == c; }
  /// Into an object or a list: to its first key or value, or to its end.
  void enter() { step(); }
  /// Behind a value's comma, if there is one.
  bool next() {
    const bool more = opens(',');
    if (more) step();
    return more;
  }
  std::string_view text() {
    const std::size_t begin = at_;
    skip_text();
    const std::string_view all = json_.substr(begin, at_ - begin);
    space();
    return all;
  }
  void colon() { step(); }
  void skip() {
    if (opens('"')) {
      text();
      return;
    }
    int depth = 0;
    while (at_ < json_.size()) {
      const char c = json_[at_];
      if (c == '"') {
        skip_text();
        continue;
      }
      if (depth == 0 && (c == ',' || c == ']' || c == '}')) break;
      if (c == '{' || c == '[') ++depth;
      ++at_;
      if ((c == '}' || c == ']') && --depth == 0) break;
    }
    space();
  }

 private:
  void step() {
    if (at_ < json_.size()) ++at_;
    space();
  }
  void space() {
    while (at_ < json_.size() && std::string_view(" \t\r\n").find(json_[at_]) != std::string_view::npos) ++at_;
  }
  void skip_text() {
    for (++at_; at_ < json_.size() && json_[at_] != '"'; ++at_)
      if (json_[at_] == '\\') ++at_;
    at_ = std::min(at_ + 1, json_.size());
  }
  std::string_view json_;
  std::size_t at_ = 0;
};

bool find_key(Walker& walker, const std::string& key) {
  if (!walker.opens('{')) return false;
  walker.enter();
  while (walker.opens('"')) {
    const nlohmann::json name = nlohmann::json::parse(walker.text(), nullptr, false);
    walker.colon();
    if (name.is_string() && name.get<std::string>() == key) return true;
    walker.skip();
    if (!walker.next()) return false;
  }
  return false;
}

bool find_index(Walker& walker, std::size_t index) {
  if (!walker.opens('[')) return false;
  walker.enter();
  for (std::size_t i = 0; !walker.opens(']'); ++i) {
    if (i == index) return true;
    walker.skip();
    if (!walker.next()) return false;
  }
  return false;
}

}  // namespace

std::size_t json_place(std::string_view json, const JsonPath& path) {
  Walker walker(json);
  std::size_t found = walker.at();
  for (const auto& step : path) {
    const auto* key = std::get_if<std::string>(&step);
    if (!(key != nullptr ? find_key(walker, *key) : find_index(walker, std::get<std::size_t>(step)))) break;
    found = walker.at();
  }
  return found;
}

std::string to_text(const JsonPath& path) {
  std::string text;
  for (const auto& step : path)
    if (const auto* key = std::get_if<std::string>(&step))
      text += (text.empty() ? "" : ".") + *key;
    else
      text += fmt::format("[{}]", std::get<std::size_t>(step));
  return text;
}

}  // namespace fourmi
