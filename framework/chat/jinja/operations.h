// What templates can do to values. Each throws std::string, a cause; the caller knows the line.
#pragma once

#include <string>

#include "framework/chat/jinja/value.h"

namespace fourmi::jinja {

/// No text becomes longer, no list has more entries.
inline constexpr std::size_t longest_text = std::size_t{1} << 26, most_entries = std::size_t{1} << 20;

/// Throws if a text or a list of this size would be too large.
void check_text(std::size_t size);
void check_entries(std::size_t size);
/// Throws if a value has too many values in it, all levels together: lists may share what they hold.
void check_weight(const Value& value);

/// (a, b) instead of [a, b], where it is written.
List tuple(List entries);

Value arithmetic(const std::string& op, const Value& a, const Value& b);
bool compare(const std::string& op, const Value& a, const Value& b);
/// Python's order of two numbers, texts or lists: below zero, zero, above.
int order(const Value& a, const Value& b);
/// a.name in a template: a method of a text, list or mapping, else an entry; undefined if there is none.
Value attribute(const Value& of, const std::string& name);
Value item(const Value& of, const Value& key);
Value slice(const Value& of, const Value& begin, const Value& end, const Value& step);
/// What a loop goes through: entries, keys, characters.
List iterate(const Value& value);

/// The arguments of a call by name and place, each used or refused.
class Given {
 public:
  Given(Arguments& arguments, std::string of) : arguments_(arguments), of_(std::move(of)) {}
  /// Undefined if not given.
  Value take(const std::string& name);
  Value need(const std::string& name);
  void end() const;

 private:
  Arguments& arguments_;
  std::string of_;
  std::size_t next_ = 0, named_ = 0;
};

std::string need_text(const Value& value, const std::string& of);
std::int64_t need_integer(const Value& value, const std::string& of);

Value filter(const std::string& name, const Value& value, Arguments& arguments);
bool test(const std::string& name, const Value& value, Arguments& arguments);
/// A method of a text; undefined if texts have none of that name.
Value text_method(const std::string& text, const std::string& name);
std::string stripped(const std::string& text, const Value& characters, bool left, bool right);
std::string replaced(const std::string& text, const std::string& what, const std::string& with, std::int64_t count);

}  // namespace fourmi::jinja
