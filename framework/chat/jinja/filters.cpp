#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include "framework/chat/jinja/operations.h"

namespace fourmi::jinja {
namespace {

using Filter = std::function<Value(const Value&, Given&)>;

/// "a.b.0" of a value; undefined where it leads nowhere.
Value along(const Value& value, const std::string& path) {
  Value at = value;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    std::int64_t number = 0;
    const auto [last, failure] = std::from_chars(part.data(), part.data() + part.size(), number);
    at = item(at, failure == std::errc() && last == part.data() + part.size() ? Value(number) : Value(part));
    begin = end + 1;
  }
  return at;
}

Value size_of(const Value& value) {
  if (value.text() != nullptr) return static_cast<std::int64_t>(characters(*value.text()).size());
  if (value.list() != nullptr) return static_cast<std::int64_t>(value.list()->size());
  if (value.dict() != nullptr) return static_cast<std::int64_t>(value.dict()->entries.size());
  if (value.undefined()) return 0;
  throw fmt::format("the length of {}", value.kind());
}

Value join(const Value& value, Given& given) {
  const Value by = given.take("d"), path = given.take("attribute");
  const std::string between = by.undefined() ? "" : to_text(by);
  std::string out;
  bool first = true;
  for (const Value& v : iterate(value)) {
    if (!first) out += between;
    first = false;
    out += to_text(path.undefined() ? v : along(v, to_text(path)));
    check_text(out.size());
  }
  return out;
}

Value as_json(const Value& value, Given& given) {
  JsonStyle style;
  const Value ascii = given.take("ensure_ascii"), indent = given.take("indent"), separators = given.take("separators"),
              sorted = given.take("sort_keys");
  style.ensure_ascii = ascii.truth();
  style.sort_keys = sorted.truth();
  if (!indent.undefined() && !indent.none())
    style.indent = static_cast<int>(std::clamp<std::int64_t>(need_integer(indent, "indent"), 0, 100));
  if (separators.list() != nullptr && separators.list()->size() == 2) {
    style.item_separator = need_text((*separators.list())[0], "separators");
    style.key_separator = need_text((*separators.list())[1], "separators");
  } else if (!separators.undefined() && !separators.none()) {
    throw std::string("separators that are not two texts");
  }
  return to_json(value, style);
}

/// The entries that pass a test: select('x', ...), selectattr('path', 'x', ...).
Value selected(const Value& value, Given& given, bool by_attribute, bool wanted) {
  const Value path = by_attribute ? given.need("attribute") : Value();
  const Value name = given.take("test");
  std::vector<Value> rest;
  for (Value v = given.take("argument"); !v.undefined(); v = given.take("argument")) rest.push_back(v);
  List out;
  for (const Value& v : iterate(value)) {
    const Value looked_at = by_attribute ? along(v, need_text(path, "attribute")) : v;
    Arguments arguments{rest, {}};
    const bool passes = name.undefined() ? looked_at.truth() : test(need_text(name, "test"), looked_at, arguments);
    if (passes == wanted) out.push_back(v);
  }
  return out;
}

Value mapped(const Value& value, Given& given) {
  const Value name = given.take("filter"), path = given.take("attribute"), otherwise = given.take("default");
  List out;
  for (const Value& v : iterate(value)) {
    if (!path.undefined() && name.undefined()) {
      const Value found = along(v, to_text(path));
      out.push_back(found.undefined() ? otherwise : found);
    } else {
      Arguments arguments;
      if (!path.undefined()) arguments.positional.push_back(path);
      out.push_back(filter(need_text(name, "map"), v, arguments));
    }
  }
  return out;
}

Value sorted(const Value& value, Given& given) {
  const Value reverse = given.take("reverse"), cases = given.take("case_sensitive"), path = given.take("attribute");
  List out = iterate(value);
  const auto key = [&](const Value& v) {
    Value k = path.undefined() ? v : along(v, to_text(path));
    if (!cases.truth() && k.text() != nullptr) {
      std::string folded = *k.text();
      for (char& c : folded) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
      k = folded;
    }
    return k;
  };

  std::stable_sort(out.begin(), out.end(), [&](const Value& a, const Value& b) {
    return reverse.truth() ? order(key(b), key(a)) < 0 : order(key(a), key(b)) < 0;
  });
  return out;
}

Value sorted_dict(const Value& value, Given& given) {
  const Value cases = given.take("case_sensitive"), by = given.take("by"), reverse = given.take("reverse");
  if (value.dict() == nullptr) throw fmt::format("dictsort of {}", value.kind());
  if (!by.undefined() && to_text(by) != "key") throw std::string("dictsort by values, by keys was expected");
  List pairs;
  for (const auto& [k, v] : value.dict()->entries) pairs.push_back(tuple({k, v}));
  Arguments arguments{{}, {{"attribute", "0"}, {"reverse", reverse.truth()}, {"case_sensitive", cases.truth()}}};
  return filter("sort", pairs, arguments);
}

Value indented(const Value& value, Given& given) {
  const Value width = given.take("width"), first = given.take("first"), blank = given.take("blank");
  const std::string text = need_text(value, "indent");
  const std::string by = width.text() != nullptr
                             ? *width.text()
                             : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(
                                               width.undefined() ? 4 : need_integer(width, "indent"), 0, 1000)),
                                           ' ');
  // Every line end becomes one of a kind.
  const std::string lines = replaced(replaced(text, "\r\n", "\n", -1), "\r", "\n", -1);
  std::string out;
  for (std::size_t begin = 0; begin <= lines.size();) {
    const std::size_t end = std::min(lines.find('\n', begin), lines.size());
    if (begin == 0 ? first.truth() : end > begin || blank.truth()) out += by;
    out.append(lines, begin, end - begin);
    if (end < lines.size()) out += '\n';
    check_text(out.size());
    begin = end + 1;
  }
  return out;
}

Value integer(const Value& value, Given& given) {
  const Value otherwise = given.take("default");
  if (value.integer() != nullptr) return value;
  if (value.number() && std::abs(value.as_real()) < 9e18) return static_cast<std::int64_t>(value.as_real());
  if (value.text() != nullptr) {
    const std::string text = stripped(*value.text(), Undefined{}, true, true);
    std::int64_t n = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (failure == std::errc() && end == text.data() + text.size()) return n;
  }
  return otherwise.undefined() ? Value(0) : otherwise;
}

Value real(const Value& value, Given& given) {
  const Value otherwise = given.take("default");
  if (value.number()) return value.as_real();
  if (value.text() != nullptr) {
    const std::string text = stripped(*value.text(), Undefined{}, true, true);
    double n = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (failure == std::errc() && end == text.data() + text.size() && !text.empty()) return n;
  }
  return otherwise.undefined() ? Value(0.0) : otherwise;
}

Value rounded(const Value& value, Given& given) {
  const Value precision = given.take("precision"), method = given.take("method");
  if (!value.number()) throw fmt::format("round of {}", value.kind());
  const double scale =
      std::pow(10.0, static_cast<double>(precision.undefined() ? 0 : need_integer(precision, "round")));
  const std::string how = method.undefined() ? "common" : need_text(method, "round");
  const double scaled = value.as_real() * scale;
  return (how == "floor" ? std::floor(scaled) : how == "ceil" ? std::ceil(scaled) : std::nearbyint(scaled)) / scale;
}

Value unique(const Value& value, Given& given) {
  const Value cases = given.take("case_sensitive"), path = given.take("attribute");
  List seen, out;
  for (const Value& v : iterate(value)) {
    const Value key = path.undefined() ? v : along(v, to_text(path));
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& s) { return equal(s, key); })) continue;
    seen.push_back(key);
    out.push_back(v);
  }
  return out;
}

Value extreme(const Value& value, bool most) {
  const List all = iterate(value);
  if (all.empty()) return Undefined{"the largest or smallest of nothing"};
  return *std::max_element(all.begin(), all.end(),
                           [&](const Value& a, const Value& b) { return most ? order(a, b) < 0 : order(a, b) > 0; });
}

Value through_method(const Value& value, const char* name) {
  Arguments none;
  return (*text_method(to_text(value), name).callable())(none);
}

const std::map<std::string, Filter>& filters() {
  static const std::map<std::string, Filter> table = [] {
    std::map<std::string, Filter> t{
        {"tojson", as_json},
        {"join", join},
        {"map", mapped},
        {"sort", sorted},
        {"dictsort", sorted_dict},
        {"indent", indented},
        {"int", integer},
        {"float", real},
        {"round", rounded},
        {"unique", unique},
        {"select", [](const Value& v, Given& g) { return selected(v, g, false, true); }},
        {"reject", [](const Value& v, Given& g) { return selected(v, g, false, false); }},
        {"selectattr", [](const Value& v, Given& g) { return selected(v, g, true, true); }},
        {"rejectattr", [](const Value& v, Given& g) { return selected(v, g, true, false); }},
        {"trim", [](const Value& v, Given& g) -> Value { return stripped(to_text(v), g.take("chars"), true, true); }},
        {"length", [](const Value& v, Given&) { return size_of(v); }},
        {"count", [](const Value& v, Given&) { return size_of(v); }},
        {"string", [](const Value& v, Given&) -> Value { return to_text(v); }},
        {"safe", [](const Value& v, Given&) { return v; }},
        {"list", [](const Value& v, Given&) -> Value { return iterate(v); }},
        {"min", [](const Value& v, Given&) { return extreme(v, false); }},
        {"max", [](const Value& v, Given&) { return extreme(v, true); }},
        {"items",
         [](const Value& v, Given&) -> Value {
           if (v.undefined()) return List{};
           if (v.dict() == nullptr) throw fmt::format("items of {}", v.kind());
           Arguments none;
           return (*attribute(v, "items").callable())(none);
         }},
        {"first",
         [](const Value& v, Given&) {
           const List all = iterate(v);
           return all.empty() ? Value(Undefined{"the first of nothing"}) : all.front();
         }},
        {"last",
         [](const Value& v, Given&) {
           const List all = iterate(v);
           return all.empty() ? Value(Undefined{"the last of nothing"}) : all.back();
         }},
        {"reverse",
         [](const Value& v, Given&) -> Value {
           return slice(v.text() != nullptr ? v : Value(iterate(v)), Undefined{}, Undefined{}, -1);
         }},
        {"sum",
         [](const Value& v, Given&) {
           Value total = 0;
           for (const Value& x : iterate(v)) total = arithmetic("+", total, x);
           return total;
         }},
        {"abs", [](const Value& v, Given&) { return order(v, 0) < 0 ? arithmetic("-", 0, v) : v; }},
        {"default",
         [](const Value& v, Given& g) {
           const Value otherwise = g.take("default_value"), falsy = g.take("boolean");
           if (!v.undefined() && !(falsy.truth() && !v.truth())) return v;
           return otherwise.undefined() ? Value("") : otherwise;
         }},
        {"replace", [](const Value& v, Given& g) -> Value {
           const std::string what = to_text(g.need("old")), with = to_text(g.need("new"));
           const Value count = g.take("count");
           return replaced(to_text(v), what, with,
                           count.undefined() || count.none() ? -1 : need_integer(count, "replace"));
         }}};
    t["d"] = t["default"];
    for (const char* name : {"upper", "lower", "title", "capitalize"})
      t[name] = [name](const Value& v, Given&) { return through_method(v, name); };
    return t;
  }();
  return table;
}

using Test = std::function<bool(const Value&, Given&)>;

bool is_integer(const Value& v) {
  return v.integer() != nullptr;
}

const std::map<std::string, Test>& tests() {
  static const std::map<std::string, Test> table = [] {
    std::map<std::string, Test> t{
        {"defined", [](const Value& v, Given&) { return !v.undefined(); }},
        {"undefined", [](const Value& v, Given&) { return v.undefined(); }},
        {"none", [](const Value& v, Given&) { return v.none(); }},
        {"string", [](const Value& v, Given&) { return v.text() != nullptr; }},
        {"mapping", [](const Value& v, Given&) { return v.dict() != nullptr; }},
        {"sequence", [](const Value& v, Given&) { return v.text() || v.list() || v.dict(); }},
        {"iterable", [](const Value& v, Given&) { return v.text() || v.list() || v.dict() || v.undefined(); }},
        {"number", [](const Value& v, Given&) { return v.number(); }},
        {"integer", [](const Value& v, Given&) { return is_integer(v); }},
        {"float", [](const Value& v, Given&) { return v.real() != nullptr; }},
        {"boolean", [](const Value& v, Given&) { return v.boolean() != nullptr; }},
        {"callable", [](const Value& v, Given&) { return v.callable() != nullptr; }},
        {"true", [](const Value& v, Given&) { return v.boolean() != nullptr && *v.boolean(); }},
        {"false", [](const Value& v, Given&) { return v.boolean() != nullptr && !*v.boolean(); }},
        {"odd", [](const Value& v, Given&) { return equal(arithmetic("%", v, 2), 1); }},
        {"even", [](const Value& v, Given&) { return equal(arithmetic("%", v, 2), 0); }},
        {"divisibleby", [](const Value& v, Given& g) { return equal(arithmetic("%", v, g.need("num")), 0); }},
        {"in", [](const Value& v, Given& g) { return compare("in", v, g.need("seq")); }}};
    const std::pair<const char*, const char*> orders[] = {{"eq", "=="}, {"equalto", "=="},    {"ne", "!="},
                                                          {"lt", "<"},  {"lessthan", "<"},    {"le", "<="},
                                                          {"gt", ">"},  {"greaterthan", ">"}, {"ge", ">="}};
    for (const auto& [name, op] : orders)
      t[name] = [op = std::string(op)](const Value& v, Given& g) { return compare(op, v, g.need("other")); };
    for (const char* op : {"==", "!=", "<", "<=", ">", ">="})
      t[op] = [op = std::string(op)](const Value& v, Given& g) { return compare(op, v, g.need("other")); };
    return t;
  }();
  return table;
}

}  // namespace

Value filter(const std::string& name, const Value& value, Arguments& arguments) {
  const auto found = filters().find(name);
  if (found == filters().end()) throw fmt::format("the filter {}, which is not built", name);
  Given given(arguments, "the filter " + name);
  Value out = found->second(value, given);
  given.end();
  return out;
}

bool test(const std::string& name, const Value& value, Arguments& arguments) {
  const auto found = tests().find(name);
  if (found == tests().end()) throw fmt::format("the test {}, which is not built", name);
  Given given(arguments, "the test " + name);
  const bool out = found->second(value, given);
  given.end();
  return out;
}

}  // namespace fourmi::jinja
