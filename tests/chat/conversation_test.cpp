// Conversations read strictly, rendered, and what of them is learned: with a template that marks it, with one that does
// not, with one that writes earlier turns in another way; and what is refused rather than learned wrongly.
#include <gtest/gtest.h>

#include <functional>

#include "framework/chat/conversation_text.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr const char* chatml = R"({% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %})";

/// Reasoning of the turns before the last question is not written, as Qwen 3 and DeepSeek-R1 do it.
constexpr const char* forgetful = R"({% set ns = namespace(asked=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' and m.reasoning_content and loop.index0 > ns.asked %}<think>
{{ m.reasoning_content | trim }}
</think>

{% endif %}{{ m.content.split('</think>')[-1].lstrip('\n') }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %})";

constexpr const char* marking = R"({% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}
{{- m.reasoning_content }}{{ m.content }}</s>{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}[assistant]{% endif %})";

constexpr const char* tools = R"({% if tools %}T{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>
{{- m.content or '' }}{% for c in m.tool_calls or [] %}<call>{"name": "{{ c.function.name }}", "arguments": {{
c.function.arguments | tojson }}}</call>{% endfor %}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %})";

ModelChat chat_of(const char* text) {
  return {ChatTemplate(text, "t.jinja"), {}};
}

Conversation read(const std::string& line, ConversationFormat format = {}) {
  return read_conversation(line, format, {"d.jsonl", 7});
}

std::string refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::input);
    return e.what();
  }
  return "taken";
}
std::string read_refusal(const std::string& line, const ConversationFormat& format = {}) {
  return refusal([&] { read(line, format); });
}
bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

constexpr const char* end_tokens[] = {"<|im_end|>"};
TurnRules rules(LossOn on = LossOn::assistant) {
  static const std::vector<std::string> special(std::begin(end_tokens), std::end(end_tokens));
  return {.loss_on = on, .special_tokens = special};
}

/// The learned bytes in brackets.
std::string shown(const ConversationText& c) {
  std::string out;
  std::size_t at = 0;
  for (const auto& [begin, end] : c.loss) {
    out += c.text.substr(at, begin - at) + "{" + c.text.substr(begin, end - begin) + "}";
    at = end;
  }
  return out + c.text.substr(at);
}
std::string shown(const std::string& line, const char* chat, LossOn on = LossOn::assistant,
                  ConversationFormat format = {}) {
  return shown(write_conversation(read(line, format), chat_of(chat), rules(on)));
}

constexpr const char* two_turns =
    R"({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "user"}, )"
    R"({"role": "user", "content": "end"}, {"role": "assistant", "content": " im_end "}]})";

TEST(Conversation, TurnsEndWithTheTokenThatTheAssistantWrites) {
  EXPECT_EQ(shown(two_turns, chatml),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n{user<|im_end|>}\n<|im_start|>user\nend<|im_end|>\n"
            "<|im_start|>assistant\n{ im_end <|im_end|>}\n");
  EXPECT_EQ(shown(two_turns, chatml, LossOn::last),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nuser<|im_end|>\n<|im_start|>user\nend<|im_end|>\n"
            "<|im_start|>assistant\n{ im_end <|im_end|>}\n");
  EXPECT_EQ(shown(two_turns, chatml, LossOn::all)[0], '{');
}

TEST(Conversation, WhatATemplateMarksIsLearned) {
  EXPECT_EQ(shown(two_turns, marking), "[user]hi[assistant]{user</s>}[user]end[assistant]{ im_end </s>}");
  EXPECT_EQ(shown(two_turns, marking, LossOn::last), "[user]hi[assistant]user</s>[user]end[assistant]{ im_end </s>}");
}

TEST(Conversation, MarksThatLeaveOutAPartAreRefused) {
  const char* partly = R"({% for m in messages %}[{{ m.role }}]{{ m.reasoning_content }}{% generation %}{{ m.content }}
{%- endgeneration %}{% endfor %})";
  const std::string line = R"({"messages": [{"role": "user", "content": "a"}, )"
                           R"({"role": "assistant", "reasoning": "because", "content": "b"}]})";
  EXPECT_TRUE(has(refusal([&] { shown(line, partly, LossOn::assistant, {.reasoning = Reasoning::keep}); }),
                  "leaves out a part of what the assistant writes (7 bytes)"));
}

const std::string reasoned =
    R"({"messages": [{"role": "user", "content": "1+1"}, {"role": "assistant", "reasoning_content": "easy", )"
    R"("content": "2"}, {"role": "user", "content": "2+2"}, {"role": "assistant", "thinking": "hm", "content": "4"}]})";

TEST(Conversation, ReasoningIsKeptOrDroppedBecauseSomebodySaidSo) {
  EXPECT_TRUE(has(read_refusal(reasoned), "d.jsonl:7:"));
  EXPECT_TRUE(has(read_refusal(reasoned), "messages[1].reasoning_content: reasoning in a source that does not say"));
  const std::string lost =
      refusal([] { shown(reasoned, forgetful, LossOn::assistant, {.reasoning = Reasoning::keep}); });
  EXPECT_TRUE(has(lost, "messages[1].reasoning_content: the chat template left it out")) << lost;
  const std::size_t column = reasoned.find("\"easy\"") + 1;
  EXPECT_TRUE(has(lost, "d.jsonl:7:" + std::to_string(column) + ":")) << lost;
  EXPECT_EQ(shown(reasoned, forgetful, LossOn::assistant, {.reasoning = Reasoning::last}),
            "<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n{2<|im_end|>}\n<|im_start|>user\n2+2<|im_end|>\n"
            "<|im_start|>assistant\n{<think>\nhm\n</think>\n\n4<|im_end|>}\n");
  EXPECT_EQ(shown(reasoned, forgetful, LossOn::assistant, {.reasoning = Reasoning::drop}),
            "<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n{2<|im_end|>}\n<|im_start|>user\n2+2<|im_end|>\n"
            "<|im_start|>assistant\n{4<|im_end|>}\n");
}

TEST(Conversation, ThoughtsInsideOfAContentThatAreLostAreNamed) {
  const std::string line = R"({"messages": [{"role": "user", "content": "q"}, )"
                           R"({"role": "assistant", "content": "<think>\nlong thoughts about it\n</think>\n\nyes"}]})";
  EXPECT_TRUE(has(refusal([&] { shown(line, forgetful); }), "messages[1].content: the chat template left it out"));
}

// The generation prompt opens the thoughts, and earlier turns are written without them: where such a turn begins cannot
// be told from the prompt, so it is not guessed.
TEST(Conversation, ATurnThatDoesNotBeginAsItsPromptDoesIsRefused) {
  const char* opening = R"({% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>{% endfor %}
{%- if add_generation_prompt %}<assistant><think>{% endif %})";
  EXPECT_TRUE(has(refusal([&] { shown(two_turns, opening); }),
                  "writes the turn in another way than its generation prompt begins it"));
  const char* none = R"({% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>{% endfor %})";
  EXPECT_TRUE(has(refusal([&] { shown(two_turns, none); }), "has no generation prompt there"));
}

// What stands before a turn is written in another way once more follows: the prefix of the final text is no help.
TEST(Conversation, ATurnIsFoundWhereWhatStandsBeforeItHasChanged) {
  const char* counting = R"({{ messages | length }}:{% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %})";
  EXPECT_EQ(
      shown(two_turns, counting),
      "4:<user>hi<|im_end|>\n<assistant>{user<|im_end|>}\n<user>end<|im_end|>\n<assistant>{ im_end <|im_end|>}\n");
}

TEST(Conversation, WithoutASpecialTokenTheWhiteSpaceAtTheEndIsTheTemplates) {
  const char* plain = R"({% for m in messages %}{{ m.role }}: {{ m.content }}{{ '\n' }}{% endfor %}
{%- if add_generation_prompt %}assistant: {% endif %})";
  EXPECT_EQ(shown(two_turns, plain), "user: hi\nassistant: {user\n}user: end\nassistant: { im_end \n}");
}

TEST(Conversation, CallsAndToolsArePartOfIt) {
  const std::string line =
      R"({"tools": [{"type": "function", "function": {"name": "weather", "description": "of a place"}}], "messages": [)"
      R"({"role": "user", "content": "ants?"}, {"role": "assistant", "content": null, "tool_calls": [{"type": )"
      R"("function", "function": {"name": "weather", "arguments": {"in \"x\"": ["Ulm \"Ost\"", 3]}}}]}, )"
      R"({"role": "tool", "tool_call_id": "1", "content": "rain"}, {"role": "assistant", "content": "rain"}]})";
  EXPECT_EQ(
      shown(line, tools),
      R"(T[{"type": "function", "function": {"name": "weather", "description": "of a place"}}]<user>ants?<end>)"
      R"(<assistant>{<call>{"name": "weather", "arguments": {"in \"x\"": ["Ulm \"Ost\"", 3]}}</call><end>}<tool>rain)"
      R"(<end><assistant>{rain<end>})");
  EXPECT_TRUE(has(refusal([&] { shown(line, chatml); }),
                  "messages[1].tool_calls[0].function.name: the chat template left it out"));
  // Arguments as a text in a template that writes JSON: quotes inside of quotes.
  const std::string twice =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": )"
      R"([{"function": {"name": "f", "arguments": "{\"a\": \"b\"}"}}]}]})";
  EXPECT_TRUE(has(refusal([&] { shown(twice, tools); }),
                  "messages[1].tool_calls[0].function.arguments: the chat template left it out or changed it"));
}

TEST(Conversation, ATextThatIsLeftOutIsNamedWithItsLine) {
  const char* no_system = R"({% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}<|im_end|>
{%- endfor %}{% if add_generation_prompt %}<assistant>{% endif %})";
  const std::string line =
      R"({"messages": [{"role": "system", "content": "user"}, {"role": "user", "content": "user"}, )"
      R"({"role": "assistant", "content": "user"}]})";
  EXPECT_TRUE(has(refusal([&] { shown(line, no_system); }), "d.jsonl:7:45: messages[0].content"));
  EXPECT_TRUE(has(refusal([&] {
                    shown(
                        R"({"messages": [{"role": "user", "content": "abc"}, {"role": "assistant", "content": "B"}]})",
                        R"({% for m in messages %}<{{ m.role }}>{{ m.content | upper }}{% endfor %})");
                  }),
                  "the chat template"));
}

TEST(Conversation, ADateOfTodayIsRefusedUnlessItIsGiven) {
  const std::string dated = std::string("{{ strftime_now('%d %b %Y') }}") + chatml;
  EXPECT_TRUE(has(refusal([&] { shown(two_turns, dated.c_str()); }), "writes the date of today"));
  TurnRules given = rules();
  given.dated = true;
  given.now = 1000040000;
  EXPECT_EQ(write_conversation(read(two_turns), chat_of(dated.c_str()), given).text.substr(0, 11), "09 Sep 2001");
}

TEST(Conversation, PairsAreTextsOrListsOfMessages) {
  const ConversationFormat pair{.prompt_completion = true};
  const Conversation texts = read(R"({"prompt": "1+1=", "completion": "2", "id": 3})", pair);
  EXPECT_TRUE(texts.plain);
  EXPECT_EQ(texts.prompt + "|" + texts.completion, "1+1=|2");
  EXPECT_EQ(texts.unread, std::vector<std::string>{"id"});
  const std::string lists =
      R"({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, )"
      R"({"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]})";
  EXPECT_EQ(shown(lists, marking, LossOn::assistant, pair), "[user]a[assistant]b</s>[user]c[assistant]{d</s>}");
  EXPECT_EQ(shown(lists, chatml, LossOn::assistant, pair),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
            "<|im_start|>assistant\n{d<|im_end|>}\n");
  EXPECT_TRUE(has(read_refusal(R"({"prompt": "a", "completion": []})", pair), "two texts or two lists"));
  EXPECT_TRUE(has(read_refusal(R"({"prompt": "a"})", pair), "no field 'completion'"));
}

TEST(Conversation, WhatIsNotUnderstoodIsRefusedAtItsColumn) {
  const auto with = [](const std::string& message) {
    return R"({"messages": [{"role": "user", "content": "a"}, )" + message + "]}";
  };
  EXPECT_TRUE(has(read_refusal(with(R"({"role": "developer", "content": "b"})")),
                  "d.jsonl:7:58: messages[1].role: the role 'developer'"));
  EXPECT_TRUE(has(read_refusal(with(R"({"role": "assistant", "content": "b", "weight": 0})")),
                  "messages[1].weight: a field 'weight' in a message of the role assistant, which is not known"));
  EXPECT_TRUE(has(read_refusal(with(R"({"role": "user", "content": "b", "thinking": "c"})")), "which is not known"));
  EXPECT_TRUE(has(read_refusal(with(R"({"role": "assistant", "content": [{"type": "text"}]})")), "join their texts"));
  EXPECT_TRUE(has(read_refusal(with(R"({"role": "assistant", "content": null})")), "a text was expected"));
  EXPECT_TRUE(has(read_refusal(with(R"({"role": "user", "content": "b"})")), "no message of the role assistant"));
  EXPECT_TRUE(has(read_refusal(R"({"conversations": [{"from": "human", "value": "a"}]})"), "ShareGPT"));
  EXPECT_TRUE(
      has(read_refusal(R"({"messages": [{"from": "human", "value": "a"}]})"), "columns: {role: from, content: value}"));
  EXPECT_TRUE(has(read_refusal(R"({"messages": []})"), "at least one message"));
  EXPECT_TRUE(has(read_refusal(R"({"messages": [1 2]})"), "d.jsonl:7:17: no JSON at byte 17"));
  EXPECT_TRUE(has(read_refusal(R"({"messages": [], "messages": []})"), "twice"));
  EXPECT_TRUE(has(read_refusal(R"({"functions": [], "messages": [{"role": "assistant", "content": "a"}]})"),
                  "a field 'functions', which is not supported"));
}

}  // namespace
}  // namespace fourmi
