// Conversations as clients send them.
#include "framework/chat/chat_prompt.h"

#include <gtest/gtest.h>

#include "tests/data/files.h"

namespace fourmi {
namespace {

ModelChat chat_of(const std::string& text) {
  return {ChatTemplate(text, "template"), jinja::Dict{{{"bos_token", "<s>"}}}};
}
std::string of_messages(const std::string& messages, const std::string& text) {
  return chat_prompt(chat_of(text), {.messages = messages}, 0);
}
std::string refused(const ChatRequest& request) {
  return test::message_of(ExitStatus::input, [&] { chat_prompt(chat_of("{{ messages[0].content }}"), request, 0); });
}

TEST(ChatPrompt, IsWhatTheTemplateSays) {
  const std::string text =
      "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
      "{% if tools %}{{ tools[0] | tojson }}{% endif %}{% if thinks %}!{% endif %}{% if add_generation_prompt %}>{% "
      "endif %}";
  const std::string one = R"([{"role": "user", "content": "Hi"}])";
  EXPECT_EQ(of_messages(one, text), "<s>[user]Hi>");
  EXPECT_EQ(chat_prompt(chat_of(text), {one, R"([{"type": "function", "a": 1}])", R"({"thinks": true})"}, 0),
            R"(<s>[user]Hi{"type": "function", "a": 1}!>)");
  // Nobody overrides the conversation by a variable.
  EXPECT_EQ(chat_prompt(chat_of(text), {one, "", R"({"messages": [], "bos_token": "x"})"}, 0), "x[user]Hi>");
}

TEST(ChatPrompt, TemplatesGetTextsAndArgumentsAsObjects) {
  EXPECT_EQ(
      of_messages(R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])",
                  "{{ messages[0].content }}"),
      "a\nb");
  EXPECT_EQ(of_messages(R"([{"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": [1, 2]}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "3"}])",
                        "{{ messages[0].tool_calls[0].function.arguments.x[1] }}{{ messages[1].content }}"),
            "23");
}

TEST(ChatPrompt, WhatItCannotTakeIsNamed) {
  const auto says = [](const ChatRequest& request, const char* what) {
    const std::string message = refused(request);
    EXPECT_NE(message.find(what), std::string::npos) << message;
  };
  says({.messages = "[]"}, "messages: a list of messages was expected");
  says({.messages = "[1]"}, "messages[0]: an object was expected");
  says({.messages = R"([{"content": "a"}])"}, "messages[0].role");
  says({.messages = R"([{"role": "user", "content": 1}])"}, "messages[0].content");
  says({.messages = R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])"},
       "messages[0].content[0]: only");
  const std::string call = R"([{"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": )";
  says({.messages = call + "\"{\"}}]}]"}, "messages[0].tool_calls[0].function.arguments");
  says({.messages = call + "\"1\"}}]}]"}, "an object was expected");
  says({.messages = R"([{"role": "user", "role": "system"}])"}, "the key 'role' twice");
  says({.messages = R"([{"role": "user", "content": "a"}])", .tools = "{}"}, "tools: a list");
  EXPECT_NE(test::message_of(ExitStatus::input,
                             [] { of_messages(R"([{"role": "user"}])", "\n{{ raise_exception('no such role') }}"); })
                .find("template:2: the template refuses: no such role"),
            std::string::npos);
}

}  // namespace
}  // namespace fourmi
