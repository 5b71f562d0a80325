#include "framework/chat/columns.h"

namespace fourmi {
namespace {

struct Name {
  const char* usual;
  const std::string& written;
};

/// A step by a usual name to that in the line; each once, since names may have changed places.
void rename(std::variant<std::string, std::size_t>& step, std::initializer_list<Name> names) {
  const auto* key = std::get_if<std::string>(&step);
  for (const Name& name : names)
    if (key != nullptr && *key == name.usual && !name.written.empty()) {
      step = std::string(name.written);
      return;
    }
}

}  // namespace

bool holds_text(const ColumnNames& columns, bool pair, const std::string& key) {
  if (pair) return key == called(columns.prompt, "prompt") || key == called(columns.completion, "completion");
  return key == columns.user || key == columns.assistant || key == columns.input || key == columns.system;
}

std::string hidden_key(const jinja::Dict& message, const ColumnNames& columns) {
  for (const char* usual : {"role", "content"})
    if (usual != called(columns.role, "role") && usual != called(columns.content, "content") && message.find(usual))
      return usual;
  return {};
}

jinja::Value with_usual_names(const jinja::Value& message, const ColumnNames& columns) {
  if (columns.role.empty() && columns.content.empty()) return message;
  jinja::Dict usual;
  for (const auto& [key, value] : message.dict()->entries) {
    const bool role = key == called(columns.role, "role"), content = key == called(columns.content, "content");
    jinja::Value& to = usual[role ? "role" : content ? "content" : key];
    to = value;
    if (!role || columns.role.empty() || value.text() == nullptr) continue;
    if (*value.text() == "human") to = "user";
    if (*value.text() == "gpt") to = "assistant";
  }
  return usual;
}

JsonPath as_written(JsonPath path, const ColumnNames& columns) {
  if (path.empty()) return path;
  rename(path[0], {{"prompt", columns.prompt}, {"completion", columns.completion}});
  if (path.size() == 2 && std::holds_alternative<std::string>(path[1])) path.resize(1);  // a text of the line itself
  if (path.size() > 2) rename(path[2], {{"role", columns.role}, {"content", columns.content}});
  return path;
}

}  // namespace fourmi
