#include "framework/chat/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "framework/tokenizer/utf8.h"

namespace fourmi::jinja {
namespace {

constexpr int deepest = 200;
constexpr std::size_t most_bytes = std::size_t{1} << 26;

std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string repr(const Value& value, int depth);

std::string in_quotes(std::string_view text) {
  const char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == quote || c == '\\') out += '\\';
    if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  return out + quote;
}

std::string repr(const Value& value, int depth) {
  if (depth > deepest) throw std::string("lists in each other without end");
  if (const std::string* text = value.text()) return in_quotes(*text);
  std::string out;
  if (const List* list = value.list()) {
    for (const Value& v : *list) {
      out += (out.empty() ? "" : ", ") + repr(v, depth + 1);
      if (out.size() > most_bytes) throw std::string("a list that is too long to be written");
    }
    if (list->tuple) return "(" + out + (list->size() == 1 ? ",)" : ")");
    return "[" + out + "]";
  }
  if (const Dict* dict = value.dict()) {
    for (const auto& [key, v] : dict->entries)
      out += (out.empty() ? "" : ", ") + in_quotes(key) + ": " + repr(v, depth + 1);
    return "{" + out + "}";
  }
  return to_text(value);
}

void json_text(std::string_view text, bool ascii, std::string& out) {
  out += '"';
  for (const std::string_view c : characters(text)) {
    const auto first = static_cast<unsigned char>(c[0]);
    if (c == "\"" || c == "\\") {
      out.append(1, '\\').append(c);
    } else if (c == "\n") {
      out += "\\n";
    } else if (c == "\r") {
      out += "\\r";
    } else if (c == "\t") {
      out += "\\t";
    } else if (c == "\b") {
      out += "\\b";
    } else if (c == "\f") {
      out += "\\f";
    } else if (first < 0x20) {
      out += fmt::format("\\u{:04x}", first);
    } else if (ascii && (first >= 0x7f) && utf8::character(c) == c.size()) {
      const char32_t p = utf8::code_point(c);
      if (p == 0x7f)
        out += c;
      else if (p < 0x10000)
        out += fmt::format("\\u{:04x}", static_cast<unsigned>(p));
      else
        out += fmt::format("\\u{:04x}\\u{:04x}", static_cast<unsigned>(0xd800 + ((p - 0x10000) >> 10)),
                           static_cast<unsigned>(0xdc00 + ((p - 0x10000) & 0x3ff)));
    } else {
      out += c;
    }
  }
  out += '"';
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {
    item_ = !style.item_separator.empty() ? style.item_separator : style.indent >= 0 ? "," : ", ";
    key_ = !style.key_separator.empty() ? style.key_separator : ": ";
  }
  std::string out;

  void write(const Value& value, int depth) {
    if (depth > deepest) throw std::string("lists in each other without end");
    if (out.size() > most_bytes) throw std::string("JSON that is too long");
    if (const std::string* text = value.text()) return json_text(*text, style_.ensure_ascii, out);
    if (const bool* truth = value.boolean()) return void(out += *truth ? "true" : "false");
    if (value.none()) return void(out += "null");
    if (value.integer() != nullptr || value.real() != nullptr) {
      const std::string text = to_text(value);
      out += text == "nan" ? "NaN" : text == "inf" ? "Infinity" : text == "-inf" ? "-Infinity" : text;
    } else if (const List* list = value.list()) {
      const bool empty = list->empty();
      out += '[';
      for (std::size_t i = 0; i < list->size(); ++i) {
        begin_item(i == 0, depth);
        write((*list)[i], depth + 1);
      }
      end(']', empty, depth);
    } else if (const Dict* dict = value.dict()) {
      auto entries = dict->entries;
      if (style_.sort_keys)
        std::stable_sort(entries.begin(), entries.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
      out += '{';
      for (std::size_t i = 0; i < entries.size(); ++i) {
        begin_item(i == 0, depth);
        json_text(entries[i].first, style_.ensure_ascii, out);
        out += key_;
        write(entries[i].second, depth + 1);
      }
      end('}', entries.empty(), depth);
    } else {
      throw fmt::format("{} as JSON", value.kind());
    }
  }

 private:
  void line(int depth) {
    if (style_.indent >= 0) out.append(1, '\n').append(static_cast<std::size_t>(style_.indent * depth), ' ');
  }
  void begin_item(bool first, int depth) {
    if (!first) out += item_;
    line(depth + 1);
  }
  void end(char close, bool empty, int depth) {
    if (!empty) line(depth);
    out += close;
  }
  const JsonStyle& style_;
  std::string item_, key_;
};

}  // namespace

Value::Value(List v) : value_(std::make_shared<List>(std::move(v))) {}
Value::Value(Dict v) : value_(std::make_shared<Dict>(std::move(v))) {}
Value::Value(const Value& other) = default;
Value::Value(Value&& other) noexcept = default;
Value& Value::operator=(const Value& other) = default;
Value& Value::operator=(Value&& other) noexcept = default;
Value::~Value() = default;

const Value* Dict::find(std::string_view key) const {
  for (const auto& [k, value] : entries)
    if (k == key) return &value;
  return nullptr;
}

Value& Dict::operator[](const std::string& key) {
  for (auto& [k, value] : entries)
    if (k == key) return value;
  return entries.emplace_back(key, Value()).second;
}

bool Value::truth() const {
  if (undefined() || none()) return false;
  if (boolean() != nullptr) return *boolean();
  if (integer() != nullptr) return *integer() != 0;
  if (real() != nullptr) return *real() != 0;
  if (text() != nullptr) return !text()->empty();
  if (list() != nullptr) return !list()->empty();
  if (dict() != nullptr) return !dict()->entries.empty();
  return true;
}

double Value::as_real() const {
  if (real() != nullptr) return *real();
  return integer() != nullptr ? static_cast<double>(*integer()) : boolean() != nullptr && *boolean() ? 1 : 0;
}

const char* Value::kind() const {
  constexpr const char* kinds[] = {"an undefined value", "none",   "a truth value", "an integer",
                                   "a number",           "a text", "a list",        "a mapping",
                                   "a function"};
  return kinds[value_.index()];
}

bool equal(const Value& a, const Value& b) {
  if (a.number() && b.number()) {
    if (a.integer() != nullptr && b.integer() != nullptr) return *a.integer() == *b.integer();
    return a.as_real() == b.as_real();
  }
  if (a.text() != nullptr && b.text() != nullptr) return *a.text() == *b.text();
  if (a.none() || b.none()) return a.none() && b.none();
  if (a.undefined() || b.undefined()) return a.undefined() && b.undefined();
  if (a.list() != nullptr && b.list() != nullptr)
    return a.list()->tuple == b.list()->tuple &&
           std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end(), equal);
  if (a.dict() != nullptr && b.dict() != nullptr) {
    if (a.dict()->entries.size() != b.dict()->entries.size()) return false;
    for (const auto& [key, value] : a.dict()->entries) {
      const Value* other = b.dict()->find(key);
      if (other == nullptr || !equal(value, *other)) return false;
    }
    return true;
  }
  return false;
}

std::string to_text(const Value& value) {
  if (value.undefined()) return "";
  if (value.none()) return "None";
  if (const bool* truth = value.boolean()) return *truth ? "True" : "False";
  if (const std::int64_t* integer = value.integer()) return fmt::format("{}", *integer);
  if (const double* real = value.real()) return real_text(*real);
  if (const std::string* text = value.text()) return *text;
  if (value.callable() != nullptr) throw std::string("a function where a text is written");
  return repr(value, 0);
}

std::string to_repr(const Value& value) {
  return repr(value, 0);
}

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(value, 0);
  return std::move(writer.out);
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const std::size_t length = std::max<std::size_t>(1, utf8::character(text));
    out.push_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return out;
}

bool is_space(std::string_view character) {
  if (utf8::character(character) != character.size()) return false;
  const char32_t c = utf8::code_point(character);
  return utf8::is_white_space(c) || (c >= 0x1c && c <= 0x1f);
}

}  // namespace fourmi::jinja
