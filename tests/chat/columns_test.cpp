// Lines whose keys have other names: ShareGPT's lists, Alpaca's and GSM8K's exchanges, pairs; and what is refused of
// them.
#include <gtest/gtest.h>

#include "framework/chat/conversation_text.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr const char* chat = R"({% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %})";

ColumnNames named(std::initializer_list<std::pair<std::string ColumnNames::*, const char*>> all) {
  ColumnNames columns;
  for (const auto& [member, name] : all) columns.*member = name;
  return columns;
}
const ConversationFormat sharegpt{.field = "conversations",
                                  .columns = named({{&ColumnNames::role, "from"}, {&ColumnNames::content, "value"}})};
const ConversationFormat alpaca{.columns = named({{&ColumnNames::system, "system"},
                                                  {&ColumnNames::user, "instruction"},
                                                  {&ColumnNames::input, "input"},
                                                  {&ColumnNames::assistant, "output"}})};
const ConversationFormat gsm8k{.columns =
                                   named({{&ColumnNames::user, "question"}, {&ColumnNames::assistant, "answer"}})};
const ConversationFormat pairs{
    .prompt_completion = true,
    .columns = named({{&ColumnNames::prompt, "question"}, {&ColumnNames::completion, "answer"}})};

Conversation read(const std::string& line, const ConversationFormat& format) {
  return read_conversation(line, format, {"d.jsonl", 7});
}
/// The learned bytes in braces.
std::string shown(const std::string& line, const ConversationFormat& format) {
  const ConversationText c = write_conversation(read(line, format), {ChatTemplate(chat, "t.jinja"), {}}, {});
  std::string out;
  std::size_t at = 0;
  for (const auto& [begin, end] : c.loss) {
    out += c.text.substr(at, begin - at) + "{" + c.text.substr(begin, end - begin) + "}";
    at = end;
  }
  return out + c.text.substr(at);
}
std::string refusal(const std::string& line, const ConversationFormat& format) {
  try {
    return shown(line, format);
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::input);
    return e.what();
  }
}
/// The refusal names the column of `at` in the line, and says `what`.
void expect_refusal(const std::string& line, const ConversationFormat& format, const std::string& at,
                    const std::string& what) {
  const std::string found = refusal(line, format), place = fmt::format("d.jsonl:7:{}: ", line.find(at) + 1);
  EXPECT_EQ(found.substr(0, place.size()), place) << found;
  EXPECT_NE(found.find(what), std::string::npos) << found;
}

TEST(Columns, EntriesOfFromAndValueAreMessages) {
  EXPECT_EQ(shown(R"({"id": "x", "conversations": [{"from": "system", "value": "be brief"}, {"from": "human", )"
                  R"("value": "hi"}, {"from": "gpt", "value": "yo"}, {"from": "user", "value": "?"}, )"
                  R"({"from": "assistant", "value": "!"}]})",
                  sharegpt),
            "<system>be brief</><user>hi</><assistant>{yo</>}<user>?</><assistant>{!</>}");
}

TEST(Columns, AColumnThatIsNotNamedHasItsUsualName) {
  EXPECT_EQ(shown(R"({"messages": [{"from": "human", "content": "hi"}, {"from": "gpt", "content": "yo"}]})",
                  {.columns = named({{&ColumnNames::role, "from"}})}),
            "<user>hi</><assistant>{yo</>}");
  // Without a name for the role its values are the usual ones alone.
  expect_refusal(R"({"messages": [{"role": "human", "text": "hi"}]})",
                 {.columns = named({{&ColumnNames::content, "text"}})}, R"("human")",
                 "messages[0].role: the role 'human'");
}

TEST(Columns, NamesMayHaveChangedPlaces) {
  const ConversationFormat swapped{.columns =
                                       named({{&ColumnNames::role, "content"}, {&ColumnNames::content, "role"}})};
  EXPECT_EQ(
      shown(R"({"messages": [{"content": "user", "role": "hi"}, {"content": "assistant", "role": "yo"}]})", swapped),
      "<user>hi</><assistant>{yo</>}");
  expect_refusal(R"({"messages": [{"content": "user", "role": 5}]})", swapped, "5", "messages[0].role: ");
}

TEST(Columns, ALineMayBeOneExchange) {
  EXPECT_EQ(shown(R"({"instruction": "Add.", "input": "2 and 2", "output": "4", "text": "all"})", alpaca),
            "<user>Add.\n2 and 2</><assistant>{4</>}");
  for (const char* none : {R"("input": "", )", R"("input": null, "system": "", )", ""})
    EXPECT_EQ(shown(std::string("{\"instruction\": \"Add.\", ") + none + R"("output": "4"})", alpaca),
              "<user>Add.</><assistant>{4</>}");
  EXPECT_EQ(shown(R"({"output": "4", "instruction": "2+2", "system": "Add."})", alpaca),
            "<system>Add.</><user>2+2</><assistant>{4</>}");
  EXPECT_EQ(shown(R"({"question": "2+2?", "answer": "It is\n#### 4"})", gsm8k),
            "<user>2+2?</><assistant>{It is\n#### 4</>}");
  EXPECT_EQ(read(R"({"instruction": "a", "output": "b", "text": "c"})", alpaca).unread,
            std::vector<std::string>{"text"});
}

TEST(Columns, PairsHaveNamesToo) {
  const Conversation texts = read(R"({"question": "1+1=", "answer": "2", "level": 3})", pairs);
  EXPECT_TRUE(texts.plain);
  EXPECT_EQ(texts.prompt + "|" + texts.completion, "1+1=|2");
  EXPECT_EQ(texts.unread, std::vector<std::string>{"level"});
  ConversationFormat lists = pairs;
  lists.columns.role = "from";
  lists.columns.content = "value";
  EXPECT_EQ(
      shown(R"({"question": [{"from": "human", "value": "hi"}], "answer": [{"from": "gpt", "value": "yo"}]})", lists),
      "<user>hi</><assistant>{yo</>}");
  expect_refusal(R"({"question": "a", "answer": ""})", pairs, R"("")", "answer: an empty text");
  expect_refusal(R"({"prompt": "a", "completion": "b"})", pairs, "{", "no field 'question'");
  expect_refusal(R"({"question": "a", "answer": "b"})", {.prompt_completion = true}, "{", "columns: {prompt: KEY");
}

TEST(Columns, ErrorsNameTheLinesOwnKeysAndPlace) {
  const auto list = [](const std::string& entry) {
    return R"({"conversations": [{"from": "human", "value": "hi"}, )" + entry + "]}";
  };
  expect_refusal(list(R"({"from": "bing", "value": "yo"})"), sharegpt, R"("bing")",
                 "conversations[1].from: the role 'bing'");
  expect_refusal(list(R"({"from": "gpt", "value": 17})"), sharegpt, "17", "conversations[1].value: ");
  expect_refusal(list(R"({"from": "gpt"})"), sharegpt, R"({"from": "gpt")", "without 'value'");
  expect_refusal(list(R"({"value": "yo"})"), sharegpt, R"({"value": "yo")", "without 'from'");
  expect_refusal(list(R"({"from": "gpt", "value": "yo", "content": "no"})"), sharegpt, R"({"from": "gpt")",
                 "a field 'content' in a source whose `columns` name another");
  expect_refusal(list(R"({"from": "gpt", "value": "yo", "weight": 0})"), sharegpt, R"(0})", "a field 'weight'");
  expect_refusal(R"({"conversations": [{"from": "human", "value": "hi"}]})", {.field = "conversations"}, R"({"from")",
                 "`columns: {role: from, content: value}` reads such entries");
  expect_refusal(R"({"conversations": []})", {}, "{", "columns: {role: from");
  expect_refusal(R"({"instruction": ["a"], "output": "b"})", alpaca, R"(["a"])", "instruction: a list");
  expect_refusal(R"({"instruction": "a", "input": 3, "output": "b"})", alpaca, "3", "input: ");
  expect_refusal(R"({"instruction": "a"})", alpaca, "{", "no field 'output'");
}

/// A text that the template loses is named by its column.
TEST(Columns, WhatATemplateLosesIsNamedByItsColumn) {
  const char* losing = R"({% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}</>{% endif %}
{%- endfor %}{% if add_generation_prompt %}<assistant>{% endif %})";
  const auto lost = [&](const std::string& line, const ConversationFormat& format) -> std::string {
    try {
      write_conversation(read(line, format), {ChatTemplate(losing, "t.jinja"), {}}, {});
    } catch (const Error& e) {
      return e.what();
    }
    return "taken";
  };
  const std::string exchange = R"({"instruction": "2+2", "output": "4", "system": "Add."})";
  EXPECT_EQ(lost(exchange, alpaca).find(fmt::format("d.jsonl:7:{}: system: ", exchange.find("\"Add.") + 1)), 0U)
      << lost(exchange, alpaca);
  const std::string list = R"({"conversations": [{"from": "system", "value": "be brief"}, )"
                           R"({"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]})";
  EXPECT_EQ(lost(list, sharegpt).find(fmt::format("d.jsonl:7:{}: conversations[0].value: ", list.find("\"be") + 1)), 0U)
      << lost(list, sharegpt);
}

}  // namespace
}  // namespace fourmi
