// A conversation as those who ask have it, in JSON as OpenAI's interface writes it, and as the text that a model reads.
#pragma once

#include <ctime>
#include <string>

#include "framework/chat/model_chat.h"

namespace fourmi {

/// Each as JSON.
struct ChatRequest {
  std::string messages{};   ///< a list of objects with a `role`
  std::string tools{};      ///< a list; empty: none
  std::string variables{};  ///< an object of what else the template is told (enable_thinking ...); empty: nothing
};

/// The text behind which the assistant's answer follows. `content` in parts is their texts with a line's end between,
/// and arguments of a tool call that are JSON in a text are given as what they say, as templates expect both. Throws
/// Error(input) whose place is the field at fault, or the template's line: what it does not take is said by itself.
std::string chat_prompt(const ModelChat& chat, const ChatRequest& conversation, std::time_t now);

}  // namespace fourmi
