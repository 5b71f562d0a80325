#include "framework/chat/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "framework/chat/columns.h"
#include "framework/chat/jinja/json.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

using jinja::Dict;
using jinja::List;
using jinja::Value;

constexpr const char* reasoning_names[] = {"reasoning_content", "thinking", "reasoning"};

/// Fields beside the list that say how a conversation is written, and that nothing here reads.
constexpr const char* refused_beside[] = {"functions", "function_call", "documents", "chat_template_kwargs",
                                          "images",    "videos",        "audios",    "chat_template"};

bool is_one_of(std::string_view name, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](const char* one) { return name == one; });
}

class Reader {
 public:
  Reader(std::string_view line, const ConversationFormat& format, const LinePlace& place) : format_(format) {
    c_.place = place;
    c_.line = line;
    c_.columns = format.columns;
  }

  Conversation read() {
    Value value = parse();
    Dict& all = *value.dict();
    const bool list = !format_.prompt_completion && format_.columns.user.empty();
    list ? read_messages(all) : format_.prompt_completion ? read_pair(all) : read_exchange(all);
    for (auto& [key, of] : all.entries) {
      if (list ? key == format_.field : holds_text(format_.columns, format_.prompt_completion, key)) continue;
      if (key == "tools" && !c_.plain) {
        read_tools(of);
        continue;
      }
      for (const char* name : refused_beside)
        if (key == name) fail({key}, fmt::format("a field '{}', which is not supported, none was expected", key));
      c_.unread.push_back(key);
    }
    if (!c_.plain) finish();
    return std::move(c_);
  }

 private:
  [[noreturn]] void fail(const JsonPath& path, std::string what, std::string remedy = {}) const {
    refuse(c_, path, std::move(what), std::move(remedy));
  }

  Value parse() const {
    Value value;
    try {
      value = jinja::parse_json(c_.line);
    } catch (const std::string& cause) {
      std::size_t column = 1;
      try {  // it says where
        const nlohmann::json read = nlohmann::json::parse(c_.line);
      } catch (const nlohmann::json::parse_error& error) {
        column = std::clamp<std::size_t>(error.byte, 1, c_.line.size() + 1);
      } catch (const nlohmann::json::exception&) {
      }
      throw Error(ExitStatus::input, fmt::format("{}:{}:{}", c_.place.file, c_.place.number, column),
                  fmt::format("{}, a whole JSON object on one line was expected", cause));
    }
    if (value.dict() == nullptr) fail({}, fmt::format("{}, an object was expected", value.kind()));
    return value;
  }

  void read_messages(Dict& all) {
    const std::string& key = format_.field;
    const Value* found = all.find(key);
    if (found == nullptr) {
      const bool others = all.find("conversations") != nullptr;
      fail({}, fmt::format("no field '{}', an object that has it was expected", key),
           others ? "`field: conversations` names it; of entries of from and value (ShareGPT's) with `columns: {role: "
                    "from, content: value}` beside it."
                  : "Name the field that holds the messages with `field`; `columns: {user: KEY, assistant: KEY}` reads "
                    "lines that are a question and its answer.");
    }
    read_list(*found, key);
  }

  /// The messages of a list behind those that are there.
  void read_list(const Value& found, const std::string& key) {
    if (found.list() == nullptr) fail({key}, fmt::format("{}, a list of messages was expected", found.kind()));
    if (found.list()->empty()) fail({key}, "an empty list, at least one message was expected");
    for (std::size_t i = 0; i < found.list()->size(); ++i) {
      c_.paths.push_back({key, i});
      read_message((*found.list())[i], c_.paths.back());
    }
  }

  /// Texts of the line itself, a message each; what is absent, null or empty is no system message and no input.
  void read_exchange(Dict& all) {
    const ColumnNames& names = format_.columns;
    const auto text_at = [&](const std::string& key, bool may_be_absent) -> std::string {
      const Value* found = key.empty() ? nullptr : all.find(key);
      if (may_be_absent && (found == nullptr || found->none())) return {};
      if (found == nullptr)
        fail({}, fmt::format("no field '{}', an object that has it was expected: `columns` names it", key));
      if (found->text() == nullptr) fail({key}, fmt::format("{}, a text was expected", found->kind()));
      return *found->text();
    };
    const auto add = [&](const char* role, std::string content, const std::string& key) {
      Dict message;
      message["role"] = role;
      message["content"] = std::move(content);
      c_.messages.emplace_back(std::move(message));
      c_.paths.push_back({key});
    };
    if (std::string system = text_at(names.system, true); !system.empty()) add("system", system, names.system);
    const std::string user = text_at(names.user, false), input = text_at(names.input, true);
    add("user", input.empty() ? user : user + "\n" + input, names.user);
    add("assistant", text_at(names.assistant, false), names.assistant);
  }

  void read_pair(Dict& all) {
    const std::string asked = called(format_.columns.prompt, "prompt"),
                      answered = called(format_.columns.completion, "completion");
    for (const std::string& key : {asked, answered})
      if (all.find(key) == nullptr)
        fail({}, fmt::format("no field '{}', an object that has {} and {} was expected", key, asked, answered),
             format_.columns == ColumnNames{} ? "Name the fields with `columns: {prompt: KEY, completion: KEY}`." : "");
    const Value &prompt = *all.find(asked), &completion = *all.find(answered);
    if (prompt.text() != nullptr && completion.text() != nullptr) {
      c_.plain = true;
      c_.prompt = *prompt.text();
      c_.completion = *completion.text();
      if (c_.completion.empty()) fail({"completion"}, "an empty text, at least one character was expected");
      return;
    }
    if (prompt.list() == nullptr || completion.list() == nullptr)
      fail({"prompt"},
           fmt::format("{} beside a completion that is {}, two texts or two lists of messages were expected",
                       prompt.kind(), completion.kind()));
    read_list(prompt, "prompt");
    c_.num_prompt = c_.messages.size();
    read_list(completion, "completion");
  }

  void read_message(const Value& written, const JsonPath& path) {
    if (written.dict() == nullptr) fail(path, fmt::format("{}, a message was expected", written.kind()));
    const std::string role_key = called(format_.columns.role, "role");
    if (const std::string key = hidden_key(*written.dict(), format_.columns); !key.empty())
      fail(path, fmt::format("a field '{}' in a source whose `columns` name another, one was expected", key));
    const Value value = with_usual_names(written, format_.columns);
    const Dict& message = *value.dict();
    const auto at = [&](const std::string& key) {
      JsonPath full = path;
      full.emplace_back(key);
      return full;
    };
    const Value* role = message.find("role");
    if (role == nullptr)
      fail(path, fmt::format("a message without '{}', one with it was expected", role_key),
           message.find("from") != nullptr ? "`columns: {role: from, content: value}` reads such entries." : "");
    if (role->text() == nullptr || !is_one_of(*role->text(), {"system", "user", "assistant", "tool"}))
      fail(at("role"), fmt::format("the role {}, system, user, assistant or tool was expected",
                                   role->text() != nullptr ? "'" + *role->text() + "'" : std::string(role->kind())));
    const bool assistant = *role->text() == "assistant", tool = *role->text() == "tool";
    std::string reasoning;
    for (const auto& [key, of] : message.entries) {
      const bool known = is_one_of(key, {"role", "content"}) || (tool && is_one_of(key, {"tool_call_id", "name"})) ||
                         (assistant && (key == "tool_calls" || key == "name")) || key == "name";
      if (known) continue;
      const bool thought = std::any_of(std::begin(reasoning_names), std::end(reasoning_names),
                                       [&name = key](const char* known_name) { return name == known_name; });
      if (!thought || !assistant)
        fail(at(key), fmt::format("a field '{}' in a message of the role {}, which is not known", key, *role->text()));
      if (of.none()) continue;
      if (of.text() == nullptr) fail(at(key), fmt::format("{}, a text or null was expected", of.kind()));
      if (!reasoning.empty()) fail(at(key), fmt::format("'{}' beside '{}', one was expected", key, reasoning));
      reasoning = key;
    }
    for (const char* name : {"name", "tool_call_id"})
      if (const Value* of = message.find(name); of != nullptr && of->text() == nullptr && !of->none())
        fail(at(name), fmt::format("{}, a text was expected", of->kind()));
    const bool calls = read_calls(message.find("tool_calls"), at("tool_calls"));
    read_content(message.find("content"), path, assistant && (calls || !reasoning.empty()));
    if (!reasoning.empty()) read_reasoning(at(reasoning), *message.find(reasoning)->text());
    c_.messages.push_back(value);
  }

  void read_content(const Value* content, JsonPath path, bool may_be_null) const {
    if (content == nullptr && may_be_null) return;
    if (content == nullptr)
      fail(path,
           fmt::format("a message without '{}', one with it was expected", called(format_.columns.content, "content")));
    path.emplace_back("content");
    if (content->none() && may_be_null) return;
    if (content->text() == nullptr)
      fail(path, fmt::format("{}, a text was expected", content->kind()),
           content->list() != nullptr ? "Parts of a content are not supported: join their texts." : "");
  }

  void read_reasoning(const JsonPath& path, const std::string& text) {
    if (!format_.reasoning && text.find_first_not_of(" \t\r\n") != std::string::npos)
      fail(path, "reasoning in a source that does not say what becomes of it, `reasoning` was expected",
           "Set the source's reasoning: keep, last (of the turns after the last message of a user) or drop.");
  }

  bool read_calls(const Value* calls, const JsonPath& path) const {
    if (calls == nullptr || calls->none()) return false;
    if (calls->list() == nullptr) fail(path, fmt::format("{}, a list of calls was expected", calls->kind()));
    for (std::size_t i = 0; i < calls->list()->size(); ++i) {
      JsonPath at = path;
      at.emplace_back(i);
      const Value& call = (*calls->list())[i];
      if (call.dict() == nullptr) fail(at, fmt::format("{}, a call was expected", call.kind()));
      const Dict* function = call.dict();
      if (const Value* inner = function->find("function")) {
        at.emplace_back("function");
        function = inner->dict();
        if (function == nullptr) fail(at, fmt::format("{}, an object was expected", inner->kind()));
      }
      const Value *name = function->find("name"), *arguments = function->find("arguments");
      if (name == nullptr || name->text() == nullptr || name->text()->empty())
        fail(at, "a call without the 'name' of its function, one with it was expected");
      if (arguments != nullptr && arguments->dict() == nullptr && arguments->text() == nullptr) {
        at.emplace_back("arguments");
        fail(at, fmt::format("{}, an object (or its JSON as a text) was expected", arguments->kind()));
      }
    }
    return !calls->list()->empty();
  }

  void read_tools(const Value& tools) {
    if (tools.none()) return;
    if (tools.list() == nullptr) fail({"tools"}, fmt::format("{}, a list was expected", tools.kind()));
    for (std::size_t i = 0; i < tools.list()->size(); ++i)
      if ((*tools.list())[i].dict() == nullptr)
        fail({"tools", i}, fmt::format("{}, an object was expected", (*tools.list())[i].kind()));
    if (!tools.list()->empty()) c_.tools = tools;
  }

  /// What is left out is left out here, so that whatever a template still loses was not meant to be lost.
  void finish() {
    std::size_t asked = 0;
    for (std::size_t i = 0; i < c_.messages.size(); ++i)
      if (*c_.messages[i].dict()->find("role")->text() == "user") asked = i;
    for (std::size_t i = 0; i < c_.messages.size(); ++i) {
      const bool drop = format_.reasoning == Reasoning::drop || (format_.reasoning == Reasoning::last && i < asked);
      if (!drop && format_.reasoning) continue;
      Dict message;
      for (const auto& [key, value] : c_.messages[i].dict()->entries)
        if (std::none_of(std::begin(reasoning_names), std::end(reasoning_names),
                         [&, k = std::string_view(key)](const char* name) { return k == name; }))
          message[key] = value;
      c_.messages[i] = std::move(message);
    }
    std::size_t first = c_.num_prompt;
    while (first < c_.messages.size() && !c_.assistant(first)) ++first;
    if (first == c_.messages.size())
      fail({format_.prompt_completion ? "completion" : format_.field},
           "no message of the role assistant, at least one was expected");
  }

  const ConversationFormat& format_;
  Conversation c_;
};

}  // namespace

bool Conversation::assistant(std::size_t message) const {
  return *messages[message].dict()->find("role")->text() == "assistant";
}

Conversation read_conversation(std::string_view line, const ConversationFormat& format, const LinePlace& place) {
  return Reader(line, format, place).read();
}

void refuse(const Conversation& c, const JsonPath& path, std::string what, std::string remedy) {
  const JsonPath there = as_written(path, c.columns);
  const std::string named = to_text(there);
  throw Error(ExitStatus::input, fmt::format("{}:{}:{}", c.place.file, c.place.number, json_place(c.line, there) + 1),
              (named.empty() ? "" : named + ": ") + std::move(what), std::move(remedy));
}

}  // namespace fourmi
