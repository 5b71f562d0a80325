#include "framework/chat/marked_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

using jinja::Dict;
using jinja::List;
using jinja::Value;

constexpr std::size_t digits = 6;

struct Mark {
  std::size_t message = 0;
  JsonPath path{};            ///< in the line
  std::string before, after;  ///< the text without white space at its ends, cut where the mark is
  bool raw = false;           ///< JSON's form of it does not count
};

/// Where the mark goes in a text: near the middle, not inside of a tag or a character.
std::size_t middle_of(std::string_view text) {
  const auto good = [&](std::size_t at) {
    if (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) return false;
    const std::string_view before = text.substr(0, at);
    const std::size_t open = before.rfind('<');
    return open == std::string_view::npos || before.find('>', open) != std::string_view::npos || at - open > 64;
  };
  const std::size_t middle = text.size() / 2;
  for (std::size_t off = 0; off <= middle; ++off) {
    if (good(middle - off)) return middle - off;
    if (middle + off <= text.size() && good(middle + off)) return middle + off;
  }
  return text.size();
}

/// Puts marks into copies of messages and tools.
class Marker {
 public:
  Marker(const Conversation& c, std::size_t num_messages, const std::string& salt) : salt_(salt) {
    for (std::size_t i = 0; i < num_messages; ++i) {
      message_ = i;
      messages.push_back(message(*c.messages[i].dict(), c.paths[i]));
    }
    message_ = FieldPlace::of_tools;
    tools = c.tools.list() != nullptr ? all_tools(*c.tools.list()) : c.tools;
  }

  List messages;
  Value tools;
  std::vector<Mark> marks;

 private:
  static JsonPath inside(JsonPath path, std::string key) {
    path.emplace_back(std::move(key));
    return path;
  }
  static JsonPath inside(JsonPath path, std::size_t index) {
    path.emplace_back(index);
    return path;
  }

  Value marked(const std::string& text, const JsonPath& path, bool raw = false) {
    const std::size_t begin = text.find_first_not_of(" \t\r\n\f\v");
    if (begin == std::string::npos) return text;
    const std::size_t end = text.find_last_not_of(" \t\r\n\f\v") + 1;
    const std::size_t at = begin + middle_of(std::string_view(text).substr(begin, end - begin));
    const std::string mark = fmt::format("{}{:0{}}", salt_, marks.size(), digits);
    marks.push_back({message_, path, text.substr(begin, at - begin), text.substr(at, end - at), raw});
    return text.substr(0, at) + mark + text.substr(at);
  }
  Value of(const Value& value, const JsonPath& path) {
    return value.text() != nullptr ? marked(*value.text(), path) : value;
  }
  Value message(const Dict& message, const JsonPath& path) {
    Dict out;
    for (const auto& [key, value] : message.entries) {
      const bool shown = key == "content" || key == "reasoning_content" || key == "thinking" || key == "reasoning";
      if (shown)
        out[key] = of(value, inside(path, key));
      else if (key == "tool_calls" && value.list() != nullptr)
        out[key] = calls(*value.list(), inside(path, key));
      else
        out[key] = value;
    }
    return out;
  }
  Value calls(const List& calls, const JsonPath& path) {
    List out;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      Dict call = *calls[i].dict();
      JsonPath at = inside(path, i);
      if (const Value* function = call.find("function")) {
        Dict inner = *function->dict();
        mark_function(inner, inside(at, "function"));
        call["function"] = std::move(inner);
      } else {
        mark_function(call, at);
      }
      out.push_back(std::move(call));
    }
    return out;
  }
  void mark_function(Dict& function, const JsonPath& path) {
    function["name"] = of(function["name"], inside(path, "name"));
    if (const Value* arguments = function.find("arguments")) {
      const JsonPath at = inside(path, "arguments");
      // A text is JSON already: as JSON's form of a text it would stand in quotes, twice escaped.
      function["arguments"] =
          arguments->text() != nullptr ? marked(*arguments->text(), at, true) : leaves(*arguments, at);
    }
  }
  /// All texts of a value.
  Value leaves(const Value& value, const JsonPath& path) {
    if (value.dict() != nullptr) {
      Dict out;
      for (const auto& [key, of] : value.dict()->entries) out[key] = leaves(of, inside(path, key));
      return out;
    }
    if (value.list() != nullptr) {
      List out;
      for (std::size_t i = 0; i < value.list()->size(); ++i) out.push_back(leaves((*value.list())[i], inside(path, i)));
      return out;
    }
    return of(value, path);
  }
  Value all_tools(const List& all) {
    List out;
    for (std::size_t i = 0; i < all.size(); ++i) {
      Dict tool = *all[i].dict();
      JsonPath at = inside(JsonPath{"tools"}, i);
      const Value* function = tool.find("function");
      const bool nested = function != nullptr && function->dict() != nullptr;
      Dict inner = nested ? *function->dict() : tool;
      if (nested) at = inside(at, "function");
      for (const char* key : {"name", "description"})
        if (const Value* text = inner.find(key)) inner[key] = of(*text, inside(at, key));
      if (nested)
        tool["function"] = std::move(inner);
      else
        tool = std::move(inner);
      out.push_back(std::move(tool));
    }
    return out;
  }

  const std::string& salt_;
  std::size_t message_ = 0;
};

std::string as_json(const std::string& text, bool ensure_ascii) {
  const std::string quoted = jinja::to_json(Value(text), {.ensure_ascii = ensure_ascii});
  return quoted.substr(1, quoted.size() - 2);
}

/// Around `at`, the mark's place in the text, stands what was marked.
bool stands(const std::string& text, std::size_t at, const std::string& before, const std::string& after,
            FieldPlace& place) {
  if (at < before.size() || text.compare(at - before.size(), before.size(), before) != 0 ||
      text.compare(at, after.size(), after) != 0)
    return false;
  place.begin = at - before.size();
  place.end = at + after.size();
  return true;
}

bool stands(const std::string& text, std::size_t at, const Mark& mark, FieldPlace& place) {
  if (stands(text, at, mark.before, mark.after, place)) return true;
  if (mark.raw) return false;
  for (const bool ascii : {false, true})
    if (stands(text, at, as_json(mark.before, ascii), as_json(mark.after, ascii), place)) return true;
  return false;
}

}  // namespace

std::vector<FieldPlace> find_fields(const Conversation& c, std::size_t num_messages, const RenderText& render,
                                    const std::string& text) {
  std::string salt = "fourmi7mark";
  while (c.line.find(salt) != std::string_view::npos || text.find(salt) != std::string::npos) salt += 'x';
  salt += 'q';
  const Marker marker(c, num_messages, salt);
  const std::string marked = render(marker.messages, marker.tools);
  std::string plain;
  std::vector<std::pair<std::size_t, std::size_t>> found;  // index of a mark, its place in `plain`
  for (std::size_t at = 0;;) {
    const std::size_t mark = marked.find(salt, at);
    plain.append(marked, at, mark == std::string::npos ? std::string::npos : mark - at);
    if (mark == std::string::npos) break;
    std::size_t index = 0;
    for (std::size_t d = 0; d < digits && mark + salt.size() + d < marked.size(); ++d)
      index = 10 * index + static_cast<std::size_t>(marked[mark + salt.size() + d] - '0');
    at = std::min(marked.size(), mark + salt.size() + digits);
    if (index < marker.marks.size()) found.emplace_back(index, plain.size());
  }
  if (plain != text)
    refuse(c, c.paths[0], "the chat template writes another text where a message's text changes, the same was expected",
           "What it left out cannot be told apart; use a template that does not look into the texts.");
  std::vector<FieldPlace> places;
  for (std::size_t i = 0; i < marker.marks.size(); ++i) {
    const Mark& mark = marker.marks[i];
    bool whole = false;
    for (const auto& [index, at] : found) {
      FieldPlace place{.message = mark.message};
      if (index != i || !stands(text, at, mark, place)) continue;
      places.push_back(place);
      whole = true;
    }
    if (whole) continue;
    refuse(c, mark.path, "the chat template left it out or changed it, the text as it is was expected",
           "Leave it out of the data (reasoning: last or drop leaves out reasoning), or use a data.chat_template that "
           "writes it.");
  }
  return places;
}

}  // namespace fourmi
