// A value of a tokenizer.json with its key ("pre_tokenizer.pretokenizers[0].pattern"), so that every refusal says
// where. Included by .cpp files of this folder only: it brings a JSON library along.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "framework/tokenizer/utf8.h"
#include "kernels/runtime/error.h"

namespace fourmi::tokenizer_json_at {

using Json = nlohmann::json;

constexpr std::int64_t most_ids = 1 << 24;

/// What the value is, short enough for a message.
inline std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, utf8::valid_prefix(std::string_view(text).substr(0, 77))) + "...";
  return text;
}

class At {
 public:
  At(const Json& value, const std::string& file, std::string key) : value_(value), file_(file), key_(std::move(key)) {}

  [[noreturn]] void refuse(const std::string& expected) const { refuse(shown(value_), expected); }
  [[noreturn]] void refuse(const std::string& found, const std::string& expected) const {
    throw Error(ExitStatus::input, place(), fmt::format("found {}, expected {}", found, expected));
  }
  std::string place() const { return key_.empty() ? file_ : fmt::format("{}: {}", file_, key_); }

  const Json& value() const { return value_; }
  bool has(const std::string& key) const { return value_.contains(key) && !value_[key].is_null(); }
  bool absent() const { return value_.is_null(); }
  At operator[](const std::string& key) const {
    static const Json null;
    return At(value_.contains(key) ? value_[key] : null, file_, key_.empty() ? key : key_ + "." + key);
  }
  At operator[](std::size_t i) const { return At(value_[i], file_, fmt::format("{}[{}]", key_, i)); }

  void only(std::initializer_list<std::string_view> keys) const {
    if (!value_.is_object()) refuse("an object");
    for (const auto& [key, unused] : value_.items()) {
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
      std::string list;
      for (const std::string_view known : keys) list += (list.empty() ? "" : ", ") + std::string(known);
      throw Error(ExitStatus::input, place(), fmt::format("found the key {}, expected {}", key, list));
    }
  }
  const std::string& text() const {
    if (!value_.is_string()) refuse("a string");
    return value_.get_ref<const std::string&>();
  }
  bool flag(bool otherwise) const {
    if (value_.is_null()) return otherwise;
    if (!value_.is_boolean()) refuse("true or false");
    return value_.get<bool>();
  }
  std::int32_t id() const {
    if (!value_.is_number_integer() || value_.get<std::int64_t>() < 0 || value_.get<std::int64_t>() >= most_ids)
      refuse(fmt::format("an id from 0 to {}", most_ids - 1));
    return value_.get<std::int32_t>();
  }
  /// What `type` says, empty for no object or no type.
  std::string type() const { return value_.is_object() && has("type") ? (*this)["type"].text() : ""; }
  const Json::array_t& array() const {
    if (!value_.is_array()) refuse("an array");
    return value_.get_ref<const Json::array_t&>();
  }
  void is(bool accepted, const std::string& expected) const {
    if (!accepted) refuse(expected);
  }

 private:
  const Json& value_;
  const std::string& file_;
  std::string key_;
};

}  // namespace fourmi::tokenizer_json_at
