// `columns` of a source: which names go with which format, and that a recipe with them is written and compared whole.
#include <gtest/gtest.h>

#include "framework/recipe/compare.h"
#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi::testing {
namespace {

std::string source(const std::string& keys) {
  return with("{name: web, path: /data/web.txt, weight: 2}",
              "{name: web, path: /data/web.jsonl, weight: 2, " + keys + "}");
}
std::string errors(const std::string& keys) {
  return all_of(issues_of(source(keys)));
}
void expect_error(const std::string& keys, const std::string& part) {
  const std::string all = errors(keys);
  EXPECT_NE(all.find(part), std::string::npos) << keys << " gave " << all;
  EXPECT_NE(all.find("recipe:"), std::string::npos) << all;
}

TEST(ColumnKeys, AreReadWrittenAndCompared) {
  for (const char* keys :
       {"format: messages, field: conversations, columns: {role: from, content: value}",
        "format: messages, columns: {user: instruction, input: input, assistant: output, system: \"no\"}",
        "format: prompt-completion, columns: {prompt: question, completion: answer}",
        "format: prompt-completion, columns: {prompt: completion, completion: prompt, role: prompt}"}) {
    ASSERT_EQ(errors(keys), "") << keys;
    const Recipe recipe = parse_recipe(source(keys));
    EXPECT_NE(recipe.data.train[0].columns, ColumnNames{}) << keys;
    EXPECT_EQ(recipe.data.train[1].columns, ColumnNames{});
    EXPECT_EQ(parse_recipe(to_yaml(recipe)), recipe) << to_yaml(recipe);
  }
  const Recipe before = parse_recipe(source("format: messages, columns: {role: from, content: value}"));
  const Recipe after = parse_recipe(source("format: messages, columns: {role: from, content: value}"), "recipe",
                                    {"data.train.web.columns.content=text"});
  const auto changes = compare(before, after);
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].key, "data.train.web.columns");
  EXPECT_EQ(changes[0].after, "{role: from, content: text}");
  EXPECT_TRUE(compare(after, after).empty());
}

TEST(ColumnKeys, OfAnotherFormatAreRefused) {
  expect_error("format: jsonl, columns: {role: from}", "found `columns` for the format `jsonl`");
  expect_error("format: messages, columns: {prompt: a}", "found `columns.prompt` for the format `messages`");
  expect_error("format: prompt-completion, columns: {user: a, assistant: b}", "found `columns.user` for the format");
  expect_error("format: messages, columns: {user: a}", "found `columns.user` without `columns.assistant`");
  expect_error("format: messages, columns: {input: a}", "found `columns.input` without `columns.user`");
  expect_error("format: messages, columns: {user: a, assistant: b, role: c}", "found `columns.role` beside");
  expect_error("format: messages, field: list, columns: {user: a, assistant: b}", "found `field` beside");
  expect_error("format: messages, columns: {user: a, assistant: a}", "found `a` as `columns.user` and");
  expect_error("format: messages, columns: {role: a, content: a}", "found `a` as `columns.role` and");
  expect_error("format: messages, columns: {messages: list}", "fourmi calls it `data.train[].field`");
  expect_error("format: messages, columns: {rolle: from}", "Did you mean `role`?");
  expect_error("format: messages, columns: from", "expected a section");
  expect_error("format: messages, columns: {role: \"\"}", "as `data.train[0].columns.role`");
}

}  // namespace
}  // namespace fourmi::testing
