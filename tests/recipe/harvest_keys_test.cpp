// The keys of distill.teacher and distill.harvest.
#include <gtest/gtest.h>

#include "framework/recipe/compare.h"
#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::all_of;
using testing::issues_of;
using testing::small_recipe;
using testing::with;

const std::string& harvest_recipe() {
  static const std::string text = small_recipe() + R"(distill:
  mode: text
  teacher:
    name: Oracle
    endpoint: http://127.0.0.1:8000/v1
    model: oracle
    api_key_file: ~/key
    license: MIT
    terms: {file: terms.txt, allows: [distill]}
  harvest:
    prompts: [{name: maths, path: maths.jsonl, column: problem, reference: answer, license: Apache-2.0}]
    output: /data/out
    samples: 4
    sampling: {temperature: 0.6, top_p: 0.95, max_tokens: 100}
    concurrency: 16
    timeout: 30m
    verify: {command: [python3, verify.py], timeout: 20s, keep: 1}
    budget: {cost: 10, currency: USD, price_per_million_tokens: {input: 0.55, output: 2.19}}
)";
  return text;
}

TEST(HarvestKeys, AreReadWrittenAndCompared) {
  ASSERT_TRUE(issues_of(harvest_recipe()).empty()) << all_of(issues_of(harvest_recipe()));
  const Recipe r = parse_recipe(harvest_recipe());
  const HarvestSection& h = r.distill.harvest;
  EXPECT_EQ(h.prompts.at(0).field, "problem");
  EXPECT_EQ(h.prompts.at(0).reference, "answer");
  EXPECT_EQ(h.timeout_seconds, 1800);
  EXPECT_EQ(h.verify_command, (std::vector<std::string>{"python3", "verify.py"}));
  EXPECT_EQ(h.price_output, 2.19);
  EXPECT_EQ(r.distill.teacher.terms.allows, std::vector<std::string>{"distill"});
  EXPECT_TRUE(parse_recipe(to_yaml(r)) == r) << to_yaml(r);
  EXPECT_EQ(
      parse_recipe(harvest_recipe(), "r", {"distill.harvest.prompts.maths.path=b"}).distill.harvest.prompts[0].path,
      "b");
  const auto changes =
      compare(r, parse_recipe(harvest_recipe(), "r", {"distill.harvest.prompts.maths.column=question"}));
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].key, "distill.harvest.prompts.maths.column");
  EXPECT_EQ(to_yaml(parse_recipe(small_recipe())).find("distill"), std::string::npos);
}

TEST(HarvestKeys, WhatDoesNotGoTogetherIsRefused) {
  const auto refused = [](const std::string& from, const std::string& to, const std::string& words) {
    const auto issues = issues_of(with(from, to, harvest_recipe()));
    EXPECT_EQ(issues.size(), 1u) << to << "\n" << all_of(issues);
    EXPECT_NE(all_of(issues).find(words), std::string::npos) << all_of(issues);
  };
  refused("    output: /data/out\n", "", "a harvest without `distill.harvest.output`");
  refused("    license: MIT\n", "    license: MIT\n    ca_file: ca.pem\n", "an endpoint that is asked without TLS");
  refused("    model: oracle\n", "", "a harvest without `distill.teacher.model`");
  refused("http://127.0.0.1:8000/v1", "127.0.0.1:8000", "expected https://HOST/v1");
  refused(", max_tokens: 100", "", "so that nothing can be reserved");
  refused("currency: USD, ", "", "as the currency");
  refused(", price_per_million_tokens: {input: 0.55, output: 2.19}", "", "a budget without prices");
  refused("license: MIT", "license: MITT", "the licence `MITT` of the teacher");
  refused("command: [python3, verify.py], ", "", "found `keep` without a command");
  const std::string secret = all_of(issues_of(with("127.0.0.1:8000/v1", "me:hunter2@host/v1", harvest_recipe())));
  EXPECT_NE(secret.find("a user, a query or a fragment"), std::string::npos);
  EXPECT_EQ(secret.find("hunter2"), std::string::npos);
}

}  // namespace
}  // namespace fourmi
