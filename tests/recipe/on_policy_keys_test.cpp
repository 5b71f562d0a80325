// The keys of texts that the student writes itself.
#include <gtest/gtest.h>

#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::all_of;
using testing::issues_of;
using testing::small_recipe;

const std::string begin = "distill: {mode: on-policy, teacher: {from: runs/teacher}";

TEST(OnPolicyKeys, AreReadAndWritten) {
  const Recipe r = parse_recipe(small_recipe() + begin +
                                ", on_policy: {rate: 1, temperature: 0.9, top_p: 0.8, prompt_tokens: 5, "
                                "max_new_tokens: 7, texts: 3}}\n");
  EXPECT_TRUE(r.distill.online());
  EXPECT_TRUE(r.distill.student_writes());
  EXPECT_EQ(r.distill.on_policy.rate, 1);
  EXPECT_EQ(r.distill.on_policy.prompt_tokens, 5);
  EXPECT_EQ(r.distill.on_policy.max_new_tokens, 7);
  EXPECT_EQ(r.distill.on_policy.texts, 3);
  EXPECT_TRUE(parse_recipe(to_yaml(r)) == r) << to_yaml(r);
  const Recipe plain = parse_recipe(small_recipe() + begin + "}\n");
  EXPECT_FALSE(plain.distill.on_policy.prompt_tokens.has_value());
  EXPECT_TRUE(parse_recipe(to_yaml(plain)) == plain) << to_yaml(plain);
}

TEST(OnPolicyKeys, WhatDoesNotGoTogetherIsRefused) {
  const auto refused = [](const std::string& recipe, const std::string& words) {
    const auto issues = issues_of(recipe);
    EXPECT_EQ(issues.size(), 1u) << recipe << "\n" << all_of(issues);
    EXPECT_NE(all_of(issues).find(words), std::string::npos) << all_of(issues);
  };
  const std::string recipe = small_recipe();
  refused(recipe + "distill: {mode: online, teacher: {from: a}, on_policy: {rate: 0.1}}\n",
          "found `distill.on_policy.rate` of a student that writes nothing");
  refused(recipe + "distill: {mode: text, on_policy: {max_new_tokens: 4}}\n",
          "found `distill.on_policy.max_new_tokens` of a student that writes nothing");
  refused(recipe + begin + ", on_policy: {rate: 1.5}}\n", "found the number 1.5 as `distill.on_policy.rate`");
  refused(recipe + begin + ", on_policy: {top_p: 0}}\n", "found the number 0 as `distill.on_policy.top_p`");
  refused(recipe + begin + ", on_policy: {prompt_tokens: 1000000}}\n", "found prompts of 1000000 tokens");
  refused(recipe + "distill: {mode: on-policy}\n", "found `on-policy` without a teacher");
  const auto harvest = issues_of(recipe + begin + ", harvest: {output: x}}\n");
  EXPECT_NE(all_of(harvest).find("found a harvest in mode on-policy"), std::string::npos) << all_of(harvest);
}

TEST(OnPolicyKeys, ConversationsHaveASequenceEach) {
  const std::string web = "{name: web, path: /data/web.txt, weight: 2}";
  std::string chats = small_recipe();
  ASSERT_NE(chats.find(web), std::string::npos);
  chats.replace(chats.find(web), web.size(), "{name: web, path: a.jsonl, format: messages, weight: 2}");
  const auto issues = issues_of(chats + begin + "}\n");
  EXPECT_NE(all_of(issues).find("found several conversations in a sequence"), std::string::npos) << all_of(issues);
  chats.replace(chats.find("train:"), 6, "packing: false\n  train:");
  EXPECT_EQ(all_of(issues_of(chats + begin + "}\n")).find("found several conversations"), std::string::npos);
}

}  // namespace
}  // namespace fourmi
