// What expressions of a template evaluate to: Python's values, as far as templates of chats use them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace fourmi::jinja {

class Value;
/// A list, or what Python writes as a tuple.
struct List;
struct Dict;
struct Arguments;
using Callable = std::function<Value(Arguments&)>;

struct Undefined {
  std::string name;  ///< for messages
};
struct None {};

class Value {
 public:
  using Variant = std::variant<Undefined, None, bool, std::int64_t, double, std::string, std::shared_ptr<List>,
                               std::shared_ptr<Dict>, std::shared_ptr<Callable>>;
  Value() : value_(Undefined{}) {}
  Value(Undefined v) : value_(std::move(v)) {}
  Value(None v) : value_(v) {}
  Value(bool v) : value_(v) {}
  Value(std::int64_t v) : value_(v) {}
  Value(int v) : value_(std::int64_t{v}) {}
  Value(double v) : value_(v) {}
  Value(std::string v) : value_(std::move(v)) {}
  Value(const char* v) : value_(std::string(v)) {}
  Value(List v);
  Value(Dict v);
  Value(Callable v) : value_(std::make_shared<Callable>(std::move(v))) {}
  // In value.cpp: where they are inlined GCC 12 warns of alternatives that the variant does not hold.
  Value(const Value& other);
  Value(Value&& other) noexcept;
  Value& operator=(const Value& other);
  Value& operator=(Value&& other) noexcept;
  ~Value();

  bool undefined() const { return std::holds_alternative<Undefined>(value_); }
  bool none() const { return std::holds_alternative<None>(value_); }
  bool number() const { return integer() != nullptr || std::holds_alternative<double>(value_) || boolean() != nullptr; }
  const bool* boolean() const { return std::get_if<bool>(&value_); }
  const std::int64_t* integer() const { return std::get_if<std::int64_t>(&value_); }
  const double* real() const { return std::get_if<double>(&value_); }
  const std::string* text() const { return std::get_if<std::string>(&value_); }
  List* list() const { return pointer<List>(); }
  Dict* dict() const { return pointer<Dict>(); }
  Callable* callable() const { return pointer<Callable>(); }
  const Undefined& missing() const { return std::get<Undefined>(value_); }

  bool truth() const;
  double as_real() const;  ///< of a number
  /// What it is, for messages: "a text".
  const char* kind() const;

 private:
  template <class T>
  T* pointer() const {
    const auto* p = std::get_if<std::shared_ptr<T>>(&value_);
    return p == nullptr ? nullptr : p->get();
  }
  Variant value_;
};

struct List : std::vector<Value> {
  using std::vector<Value>::vector;
  bool tuple = false;
};

/// In the order in which the keys came; keys are texts.
struct Dict {
  std::vector<std::pair<std::string, Value>> entries{};
  bool open = false;  ///< a namespace: its entries may be set
  const Value* find(std::string_view key) const;
  Value& operator[](const std::string& key);
};
struct Arguments {
  std::vector<Value> positional{};
  std::vector<std::pair<std::string, Value>> named{};
};

bool equal(const Value& a, const Value& b);
/// Python's str() and repr().
std::string to_text(const Value& value);
std::string to_repr(const Value& value);

struct JsonStyle {
  int indent = -1;  ///< spaces a level; -1: one line
  bool ensure_ascii = false, sort_keys = false;
  std::string item_separator{}, key_separator{};  ///< empty: Python's defaults
};
/// Python's json.dumps(). Throws std::string, the cause, for what JSON cannot have.
std::string to_json(const Value& value, const JsonStyle& style);

/// Characters of UTF-8 (a byte that begins none is one).
std::vector<std::string_view> characters(std::string_view text);
/// Python's str.isspace() of one.
bool is_space(std::string_view character);

}  // namespace fourmi::jinja
