// Templates against what transformers renders (tests/chat/goldens), and templates that are wrong or hostile.
#include "framework/chat/template.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "framework/chat/jinja/json.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

using jinja::Dict;
using jinja::List;
using jinja::Value;

const Value& cases() {
  static const Value all = [] {
    std::ifstream in(std::string(FOURMI_SOURCE_DIR) + "/tests/chat/goldens/cases.json");
    std::ostringstream text;
    text << in.rdbuf();
    return jinja::parse_json(text.str());
  }();
  return all;
}
const Value& of(const Value& dict, const std::string& key) {
  const Value* found = dict.dict()->find(key);
  EXPECT_NE(found, nullptr) << key;
  return *found;
}

TEST(ChatTemplate, RendersWhatTransformersRenders) {
  const List& all = *of(cases(), "rendered").list();
  ASSERT_GT(all.size(), 90u);
  for (const Value& c : all) {
    const List& parts = *c.list();
    const std::string name = *parts[0].text() + ", " + *parts[1].text();
    Dict variables = *of(of(cases(), "conversations"), *parts[1].text()).dict();
    for (const auto& [key, value] : of(cases(), "tokens").dict()->entries) variables[key] = value;
    variables["add_generation_prompt"] = parts[2];
    const ChatTemplate chat(*of(of(cases(), "templates"), *parts[0].text()).text(), "t.jinja");
    if (parts[3].none()) {
      test::message_of(ExitStatus::input, [&] { chat.render(variables, 0); });
      continue;
    }
    const jinja::Rendered rendered = chat.render(variables, 0);
    EXPECT_EQ(rendered.text, *parts[3].text()) << name;
    const List& spans = *parts[4].list();
    EXPECT_EQ(chat.marks_generation(), *parts[0].text() == "chatml");
    ASSERT_EQ(rendered.generated.size(), spans.size()) << name;
    for (std::size_t i = 0; i < spans.size(); ++i) {
      EXPECT_EQ(static_cast<std::int64_t>(rendered.generated[i].first), *(*spans[i].list())[0].integer());
      EXPECT_EQ(static_cast<std::int64_t>(rendered.generated[i].second), *(*spans[i].list())[1].integer());
    }
  }
}

TEST(ChatTemplate, EvaluatesWhatJinjaEvaluates) {
  const Dict& variables = *of(cases(), "variables").dict();
  for (const Value& c : *of(cases(), "snippets").list()) {
    const std::string& text = *(*c.list())[0].text();
    const Value& expected = (*c.list())[1];
    const auto render = [&] { return ChatTemplate(text, "t.jinja").render(variables, 0).text; };
    if (expected.none()) {
      EXPECT_THROW(render(), Error) << text;
      continue;
    }
    try {
      EXPECT_EQ(render(), *expected.text()) << text;
    } catch (const Error& e) {
      ADD_FAILURE() << text << "\n" << e.what();
    }
  }
}

TEST(ChatTemplate, TellsTheTimeThatItIsGiven) {
  const ChatTemplate chat("{{ strftime_now('%Y') }}", "t.jinja");
  EXPECT_EQ(chat.render({}, 1'000'000'000).text, "2001");
}

TEST(ChatTemplate, NamesTheLineOfWhatIsWrong) {
  const struct {
    const char *text, *message;
  } wrong[] = {
      {"a\n{% if x %}", "t.jinja:2: the end of the template, the tag endif was expected"},
      {"a\n\n{{ 1 + }}", "t.jinja:3: the end of the tag, an expression was expected"},
      {"{{ a", "t.jinja:1: a tag without its end, }} was expected"},
      {"{# a", "t.jinja:1: a comment without #}"},
      {"{% include 'x' %}", "t.jinja:1: the tag include, for, if, set"},
      {"{% endif %}", "t.jinja:1: the tag endif that ends nothing"},
      {"{% for x in y %}{% endif %}", "the tag endif, endfor was expected"},
      {"\n{{ x|nosuch }}", "t.jinja:2: the filter nosuch, which is not built"},
      {"\n\n{{ x.y }}", "t.jinja:3: 'x' is undefined, where its field y is asked for"},
      {"{{ raise_exception('Only two roles') }}", "t.jinja:1: the template refuses: Only two roles"},
      {"{{ 'a'|trim('b', 2) }}", "arguments that it does not have"},
      {"{{ '\xc3\xa9'|upper }}", "other letters than ASCII's"},
  };
  for (const auto& w : wrong) {
    const std::string message =
        test::message_of(ExitStatus::input, [&] { ChatTemplate(w.text, "t.jinja").render({}, 0); });
    EXPECT_NE(message.find(w.message), std::string::npos) << message;
  }
}

TEST(ChatTemplate, AHostileOneEnds) {
  std::string nested, deep = "{{ ";
  for (int i = 0; i < 5000; ++i) nested += "{% if true %}";
  for (int i = 0; i < 5000; ++i) deep += "(";
  std::string sum = "{{ 1";
  for (int i = 0; i < 50000; ++i) sum += "+1";
  for (const std::string& text :
       {nested, deep, sum + " }}",
        std::string("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        std::string("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
        std::string(
            "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"),
        std::string("{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"),
        std::string("{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor "
                    "%}{{ ns.x }}"),
        std::string("{% set ns = namespace() %}{% set ns.x = [ns] %}"), std::string("{{ 'a' * 99999999999 }}"),
        std::string("{{ 9223372036854775807 }}"), std::string("{{ range(1, 9999999, 0) }}")})
    test::message_of(ExitStatus::input, [&] { ChatTemplate(text, "t.jinja").render({}, 0); });
}

TEST(JsonValues, AreReadStrictly) {
  const auto cause = [](const std::string& text) {
    try {
      jinja::parse_json(text);
    } catch (const std::string& why) {
      return why;
    }
    return std::string("none");
  };
  EXPECT_EQ(cause(R"({"a": 1, "a": 2})"), "the key 'a' twice");
  EXPECT_EQ(cause("[1,"), "no JSON at byte 4");
  EXPECT_EQ(cause("99999999999999999999"), "a number beyond 64 bits");
  EXPECT_EQ(cause(std::string(200, '[')), "more than 100 values in each other");
  EXPECT_EQ(cause(R"([{"a": [null, true, -1, 2.5, "x"]}])"), "none");
}

}  // namespace
}  // namespace fourmi
