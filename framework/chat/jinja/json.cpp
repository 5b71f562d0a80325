#include "framework/chat/jinja/json.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace fourmi::jinja {
namespace {

/// Takes the parser's events one by one: its own tree would lose keys that stand twice.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Value root{};
  std::string cause{};

  bool null() override { return put(None{}); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(static_cast<std::int64_t>(v)); }
  bool number_unsigned(number_unsigned_t v) override {
    return v > static_cast<number_unsigned_t>(INT64_MAX) ? stop("a number beyond 64 bits")
                                                         : put(static_cast<std::int64_t>(v));
  }
  bool number_float(number_float_t v, const string_t& text) override {
    const bool whole = text.find_first_of(".eE") == std::string::npos;
    return whole || !std::isfinite(v) ? stop("a number beyond 64 bits") : put(v);
  }
  bool string(string_t& v) override { return put(std::move(v)); }
  bool binary(binary_t&) override { return stop("bytes"); }
  bool start_object(std::size_t) override { return open(Dict{}); }
  bool start_array(std::size_t) override { return open(List{}); }
  bool key(string_t& v) override {
    if (open_.back().dict()->find(v) != nullptr) return stop(fmt::format("the key '{}' twice", v));
    (*open_.back().dict())[v];
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception&) override {
    return stop(fmt::format("no JSON at byte {}", byte));
  }

 private:
  bool stop(std::string why) {
    if (cause.empty()) cause = std::move(why);
    return false;
  }
  bool put(Value v) {
    if (open_.empty())
      root = std::move(v);
    else if (open_.back().list() != nullptr)
      open_.back().list()->push_back(std::move(v));
    else
      open_.back().dict()->entries.back().second = std::move(v);
    return true;
  }
  bool open(Value v) {
    if (open_.size() >= 100) return stop("more than 100 values in each other");
    put(v);
    open_.push_back(std::move(v));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  std::vector<Value> open_;
};

}  // namespace

Value parse_json(std::string_view json) {
  Builder builder;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &builder))
    throw builder.cause.empty() ? std::string("no JSON") : builder.cause;
  return std::move(builder.root);
}

}  // namespace fourmi::jinja
