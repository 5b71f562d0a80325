// Where the texts of a conversation went: which bytes of the rendered text are a message's content, reasoning, the name
// and arguments of a call, the name of a tool. A template may leave one out without a word, which no one sees in a
// loss.
//
// A mark is put into the middle of every text and the template renders that too. Without the marks it must be the same
// text; then a mark's place is its text's place, and around it must stand the text, as it is or as JSON writes it.
// (The middle: templates look at how a content begins and ends, and cut at tags such as </think>.)
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "framework/chat/conversation.h"

namespace fourmi {

/// Bytes [begin, end) of the rendered text that a field of a message became.
struct FieldPlace {
  static constexpr std::size_t of_tools = static_cast<std::size_t>(-1);
  std::size_t message = 0;  ///< or of_tools
  std::size_t begin = 0, end = 0;
};

/// Renders other messages and tools of the same shape.
using RenderText = std::function<std::string(const jinja::List& messages, const jinja::Value& tools)>;

/// Of the first `num_messages` messages, whose rendered text is `text`. In order of messages; a field that is written
/// twice has two places. Empty texts have none. Throws Error(input) naming line, message and field of a text that is
/// not in it, and for a template that does not write the same text around the marks.
std::vector<FieldPlace> find_fields(const Conversation& conversation, std::size_t num_messages,
                                    const RenderText& render, const std::string& text);

}  // namespace fourmi
