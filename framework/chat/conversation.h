// A conversation as a line of a data set has it, read strictly: {"messages": [{"role", "content", ...}, ...], "tools":
// [...]}, or {"prompt", "completion"} as two texts or two lists of messages; or, by names of columns, a line that is
// one exchange itself. Whatever keys are called in the line, what comes out has the usual names.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/chat/jinja/value.h"
#include "framework/chat/json_place.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// What becomes of reasoning that messages have in a field of its own.
enum class Reasoning {
  keep,
  last,  ///< only that of the turns after the last message of a user
  drop
};

struct ConversationFormat {
  bool prompt_completion = false;
  std::string field = "messages";        ///< that holds the list; not of prompt_completion
  std::optional<Reasoning> reasoning{};  ///< nothing: data that have reasoning are refused
  ColumnNames columns{};                 ///< as check_chat lets them through
};

/// A line of a file, for messages.
struct LinePlace {
  std::string file;
  std::size_t number = 1;
};

struct Conversation {
  LinePlace place;
  std::string_view line;  ///< what it was read from; the caller keeps it
  // Either these,
  jinja::List messages;
  jinja::Value tools = jinja::None{};
  std::vector<JsonPath> paths;  ///< of each message in the line, with the usual names
  std::size_t num_prompt = 0;   ///< messages of a prompt, which are never in the loss
  // or two texts, without a template.
  bool plain = false;
  std::string prompt, completion;

  std::vector<std::string> unread;  ///< the line's other fields
  ColumnNames columns;              ///< what keys are called in the line

  bool assistant(std::size_t message) const;
};

/// Throws Error(input) at file:line:column (bytes, from 1).
Conversation read_conversation(std::string_view line, const ConversationFormat& format, const LinePlace& place);

/// Throws Error(input) at the value's file:line:column. `path` has the usual names; what is said has the line's.
[[noreturn]] void refuse(const Conversation& conversation, const JsonPath& path, std::string what,
                         std::string remedy = {});

}  // namespace fourmi
