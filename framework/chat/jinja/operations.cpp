#include "framework/chat/jinja/operations.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace fourmi::jinja {
namespace {

Value integers(const std::string& op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &out);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &out);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &out);
  } else if (op == "**") {
    if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
    if (a == 0 || a == 1 || a == -1) return b == 0 ? 1 : a == -1 && b % 2 == 0 ? 1 : static_cast<int>(a);
    for (out = 1; b > 0 && !overflow; --b) overflow = __builtin_mul_overflow(out, a, &out);
  } else if (b == 0) {
    throw std::string("a division by zero");
  } else if (op == "/") {
    return static_cast<double>(a) / static_cast<double>(b);
  } else if (b == -1) {
    overflow = op == "//" && __builtin_sub_overflow(std::int64_t{0}, a, &out);
  } else {
    const std::int64_t quotient = a / b - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0);
    out = op == "//" ? quotient : a - quotient * b;
  }
  if (overflow) throw std::string("a number beyond 64 bits");
  return out;
}

Value reals(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) throw std::string("a division by zero");
  if (op == "/") return a / b;
  const double quotient = std::floor(a / b);
  return op == "//" ? quotient : a - quotient * b;
}

std::int64_t integer_of(const Value& v) {
  return v.integer() != nullptr ? *v.integer() : *v.boolean() ? 1 : 0;
}

template <class T>
T repeated(const T& what, std::int64_t count) {
  T out;
  for (std::int64_t i = 0; i < count; ++i) out.insert(out.end(), what.begin(), what.end());
  return out;
}

Value method_of_dict(const Value& of, const std::string& name) {
  const Dict& d = *of.dict();
  if (name == "items" || name == "keys" || name == "values")
    return Callable([of, name](Arguments& a) -> Value {
      Given(a, name).end();
      List out;
      for (const auto& [key, value] : of.dict()->entries)
        out.push_back(name == "keys" ? Value(key) : name == "values" ? value : Value(tuple({key, value})));
      return out;
    });
  if (name == "get")
    return Callable([of](Arguments& a) -> Value {
      Given given(a, "get");
      const Value key = given.need("key"), otherwise = given.take("default");
      given.end();
      const Value* found = key.text() != nullptr ? of.dict()->find(*key.text()) : nullptr;
      return found != nullptr ? *found : otherwise.undefined() ? Value(None{}) : otherwise;
    });
  const Value* found = d.find(name);
  return found != nullptr ? *found : Value(Undefined{name});
}

}  // namespace

List tuple(List entries) {
  entries.tuple = true;
  return entries;
}

void check_weight(const Value& value) {
  std::size_t weight = 0;
  const auto add = [&](const Value& v, const auto& again, int depth) -> void {
    check_entries(++weight);
    if (depth > 200) throw std::string("lists in each other without end");
    if (v.list() != nullptr)
      for (const Value& entry : *v.list()) again(entry, again, depth + 1);
    if (v.dict() != nullptr && !v.dict()->open)
      for (const auto& [key, entry] : v.dict()->entries) again(entry, again, depth + 1);
  };
  add(value, add, 0);
}

void check_text(std::size_t size) {
  if (size > longest_text) throw fmt::format("a text of more than {} bytes", longest_text);
}
void check_entries(std::size_t size) {
  if (size > most_entries) throw fmt::format("a list of more than {} entries", most_entries);
}

Value Given::take(const std::string& name) {
  if (next_ < arguments_.positional.size()) return arguments_.positional[next_++];
  for (const auto& [key, value] : arguments_.named)
    if (key == name) {
      ++named_;
      return value;
    }
  return Undefined{name};
}
Value Given::need(const std::string& name) {
  const std::size_t before = next_ + named_;
  Value value = take(name);
  if (next_ + named_ == before) throw fmt::format("{} without its argument {}", of_, name);
  return value;
}
void Given::end() const {
  if (next_ != arguments_.positional.size() || named_ != arguments_.named.size())
    throw fmt::format("{} with arguments that it does not have", of_);
}

std::string need_text(const Value& value, const std::string& of) {
  if (value.text() == nullptr) throw fmt::format("{} for {}, a text was expected", value.kind(), of);
  return *value.text();
}
std::int64_t need_integer(const Value& value, const std::string& of) {
  if (value.integer() == nullptr) throw fmt::format("{} for {}, an integer was expected", value.kind(), of);
  return *value.integer();
}

Value arithmetic(const std::string& op, const Value& a, const Value& b) {
  if (op == "~") {
    std::string out = to_text(a);
    out += to_text(b);
    check_text(out.size());
    return out;
  }
  if (a.number() && b.number())
    return a.real() != nullptr || b.real() != nullptr ? reals(op, a.as_real(), b.as_real())
                                                      : integers(op, integer_of(a), integer_of(b));
  if (op == "+" && a.text() != nullptr && b.text() != nullptr) {
    check_text(a.text()->size() + b.text()->size());
    return *a.text() + *b.text();
  }
  if (op == "+" && a.list() != nullptr && b.list() != nullptr) {
    check_entries(a.list()->size() + b.list()->size());
    List out = *a.list();
    out.insert(out.end(), b.list()->begin(), b.list()->end());
    return out;
  }
  if (op == "*" && b.integer() != nullptr && (a.text() != nullptr || a.list() != nullptr)) {
    const auto count = static_cast<std::size_t>(std::clamp<std::int64_t>(*b.integer(), 0, 1 << 30));
    if (a.text() != nullptr) {
      check_text(a.text()->size() * count);
      return repeated(*a.text(), a.text()->empty() ? 0 : static_cast<std::int64_t>(count));
    }
    check_entries(a.list()->size() * count);
    return repeated(*a.list(), a.list()->empty() ? 0 : static_cast<std::int64_t>(count));
  }
  if (a.undefined()) throw fmt::format("'{}' is undefined, before {}", a.missing().name, op);
  if (b.undefined()) throw fmt::format("'{}' is undefined, after {}", b.missing().name, op);
  throw fmt::format("{} {} {}, which has no meaning", a.kind(), op, b.kind());
}

int order(const Value& a, const Value& b) {
  if (a.number() && b.number()) {
    if (a.real() == nullptr && b.real() == nullptr) {
      const std::int64_t x = integer_of(a), y = integer_of(b);
      return x < y ? -1 : x > y ? 1 : 0;
    }
    return a.as_real() < b.as_real() ? -1 : a.as_real() > b.as_real() ? 1 : 0;
  }
  if (a.text() != nullptr && b.text() != nullptr) return a.text()->compare(*b.text());
  if (a.list() != nullptr && b.list() != nullptr) {
    const List &x = *a.list(), &y = *b.list();
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!equal(x[i], y[i])) return order(x[i], y[i]);
    return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
  }
  throw fmt::format("{} compared with {}", a.kind(), b.kind());
}

bool compare(const std::string& op, const Value& a, const Value& b) {
  if (op == "==") return equal(a, b);
  if (op == "!=") return !equal(a, b);
  if (op == "in" || op == "not in") {
    bool found = false;
    if (b.text() != nullptr)
      found = b.text()->find(need_text(a, "what is looked for in a text")) != std::string::npos;
    else if (b.dict() != nullptr)
      found = a.text() != nullptr && b.dict()->find(*a.text()) != nullptr;
    else if (b.list() != nullptr)
      found = std::any_of(b.list()->begin(), b.list()->end(), [&](const Value& v) { return equal(v, a); });
    else if (!b.undefined())
      throw fmt::format("{} searched, a text, a list or a mapping was expected", b.kind());
    return found == (op == "in");
  }
  const int o = order(a, b);
  return op == "<" ? o < 0 : op == "<=" ? o <= 0 : op == ">" ? o > 0 : o >= 0;
}

Value attribute(const Value& of, const std::string& name) {
  if (of.undefined()) throw fmt::format("'{}' is undefined, where its field {} is asked for", of.missing().name, name);
  if (of.dict() != nullptr) return method_of_dict(of, name);
  if (of.text() != nullptr) return text_method(*of.text(), name);
  if (of.list() != nullptr && (name == "index" || name == "count"))
    return Callable([of, name](Arguments& a) -> Value {
      Given given(a, name);
      const Value wanted = given.need("value");
      given.end();
      const List& list = *of.list();
      if (name == "count")
        return static_cast<std::int64_t>(
            std::count_if(list.begin(), list.end(), [&](const Value& v) { return equal(v, wanted); }));
      const auto found = std::find_if(list.begin(), list.end(), [&](const Value& v) { return equal(v, wanted); });
      if (found == list.end()) throw std::string("index() of what is not in the list");
      return static_cast<std::int64_t>(found - list.begin());
    });
  return Undefined{name};
}

Value item(const Value& of, const Value& key) {
  if (of.undefined()) throw fmt::format("'{}' is undefined, where one of its entries is asked for", of.missing().name);
  if (of.dict() != nullptr && key.text() != nullptr) {
    if (const Value* found = of.dict()->find(*key.text())) return *found;
    return attribute(of, *key.text());
  }
  if (key.integer() != nullptr && (of.list() != nullptr || of.text() != nullptr)) {
    const std::vector<std::string_view> all =
        of.text() != nullptr ? characters(*of.text()) : std::vector<std::string_view>{};
    const auto size = static_cast<std::int64_t>(of.list() != nullptr ? of.list()->size() : all.size());
    const std::int64_t i = *key.integer() < 0 ? *key.integer() + size : *key.integer();
    if (i < 0 || i >= size) return Undefined{fmt::format("[{}]", *key.integer())};
    if (of.list() != nullptr) return (*of.list())[static_cast<std::size_t>(i)];
    return std::string(all[static_cast<std::size_t>(i)]);
  }
  if (key.text() != nullptr) return attribute(of, *key.text());
  return Undefined{to_text(key)};
}

Value slice(const Value& of, const Value& begin, const Value& end, const Value& step) {
  if (of.undefined()) return List{};
  if (of.text() == nullptr && of.list() == nullptr) throw fmt::format("a slice of {}", of.kind());
  const List all = iterate(of);
  const auto size = static_cast<std::int64_t>(all.size());
  const auto given = [&](const Value& v, std::int64_t otherwise) {
    return v.undefined() || v.none() ? otherwise : need_integer(v, "a slice");
  };
  const std::int64_t by = given(step, 1);
  if (by == 0) throw std::string("a slice of step 0");
  const std::int64_t lowest = by > 0 ? 0 : -1, highest = by > 0 ? size : size - 1;
  const auto bound = [&](const Value& v, std::int64_t otherwise) {
    if (v.undefined() || v.none()) return otherwise;
    std::int64_t n = need_integer(v, "a slice");
    if (n < 0) n = n < -size ? -1 - size : n + size;
    return std::clamp(n, lowest, highest);
  };
  const std::int64_t from = bound(begin, by > 0 ? lowest : highest), to = bound(end, by > 0 ? highest : lowest);
  List out;
  for (std::int64_t i = from; by > 0 ? i < to : i > to;) {
    out.push_back(all[static_cast<std::size_t>(i)]);
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  if (of.list() != nullptr) return out;
  std::string text;
  for (const Value& v : out) text += *v.text();
  return text;
}

List iterate(const Value& value) {
  if (value.undefined()) return {};
  if (value.list() != nullptr) return *value.list();
  List out;
  if (value.dict() != nullptr) {
    for (const auto& [key, unused] : value.dict()->entries) out.push_back(key);
  } else if (value.text() != nullptr) {
    check_entries(value.text()->size());
    for (const std::string_view c : characters(*value.text())) out.push_back(std::string(c));
  } else {
    throw fmt::format("{} gone through, a list, a mapping or a text was expected", value.kind());
  }
  return out;
}

}  // namespace fourmi::jinja
