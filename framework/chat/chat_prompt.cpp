#include "framework/chat/chat_prompt.h"

#include <fmt/format.h>

#include "framework/chat/jinja/json.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

using jinja::Dict;
using jinja::List;
using jinja::Value;

[[noreturn]] void refuse(const std::string& place, const std::string& problem) {
  throw Error(ExitStatus::input, place, problem);
}

Value parse(const std::string& json, const std::string& place) {
  try {
    return jinja::parse_json(json);
  } catch (const std::string& cause) {
    refuse(place, cause + " was found, JSON was expected");
  }
}

/// The texts of content in parts, a line each.
std::string joined(const List& parts, const std::string& place) {
  std::string all;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string at = fmt::format("{}[{}]", place, i);
    if (parts[i].dict() == nullptr) refuse(at, "an object was expected");
    const Value *type = parts[i].dict()->find("type"), *text = parts[i].dict()->find("text");
    if (type == nullptr || type->text() == nullptr || *type->text() != "text" || text == nullptr ||
        text->text() == nullptr)
      refuse(at, "only {\"type\": \"text\", \"text\": ...} is read");
    all += (i > 0 ? "\n" : "") + *text->text();
  }
  return all;
}

/// Of {"function": {"arguments": "{...}"}}: the arguments as what they say.
void open_arguments(const Value& call, const std::string& place) {
  Dict* of = call.dict();
  if (of == nullptr) refuse(place, "an object was expected");
  const Value* function = of->find("function");
  if (function != nullptr) of = function->dict();
  const Value* arguments = of == nullptr ? nullptr : of->find("arguments");
  if (arguments == nullptr || arguments->text() == nullptr) return;
  const std::string at = place + ".function.arguments";
  Value value = parse(arguments->text()->empty() ? "{}" : *arguments->text(), at);
  if (value.dict() == nullptr) refuse(at, "an object was expected");
  (*of)["arguments"] = std::move(value);
}

Value read_messages(const std::string& json) {
  Value messages = parse(json, "messages");
  if (messages.list() == nullptr || messages.list()->empty()) refuse("messages", "a list of messages was expected");
  for (std::size_t i = 0; i < messages.list()->size(); ++i) {
    const std::string place = fmt::format("messages[{}]", i);
    Dict* message = (*messages.list())[i].dict();
    if (message == nullptr) refuse(place, "an object was expected");
    const Value* role = message->find("role");
    if (role == nullptr || role->text() == nullptr) refuse(place + ".role", "a text was expected");
    const Value* content = message->find("content");
    if (content != nullptr && content->list() != nullptr)
      (*message)["content"] = joined(*content->list(), place + ".content");
    else if (content != nullptr && !content->none() && content->text() == nullptr)
      refuse(place + ".content", "a text, or a list of parts, was expected");
    const Value* calls = message->find("tool_calls");
    if (calls == nullptr || calls->none()) continue;
    if (calls->list() == nullptr) refuse(place + ".tool_calls", "a list was expected");
    for (std::size_t c = 0; c < calls->list()->size(); ++c)
      open_arguments((*calls->list())[c], fmt::format("{}.tool_calls[{}]", place, c));
  }
  return messages;
}

}  // namespace

std::string chat_prompt(const ModelChat& chat, const ChatRequest& c, std::time_t now) {
  const Value messages = read_messages(c.messages);
  Value tools = jinja::None{};
  if (!c.tools.empty()) tools = parse(c.tools, "tools");
  if (!tools.none() && tools.list() == nullptr) refuse("tools", "a list was expected");
  Value variables = Dict{};
  if (!c.variables.empty()) variables = parse(c.variables, "chat_template_kwargs");
  if (variables.dict() == nullptr) refuse("chat_template_kwargs", "an object was expected");
  return chat.render(messages, tools, true, now, *variables.dict()).text;
}

}  // namespace fourmi
