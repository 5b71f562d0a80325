// The keys of a teacher whose logits are learned from.
#include <gtest/gtest.h>

#include "framework/recipe/compare.h"
#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::all_of;
using testing::issues_of;
using testing::small_recipe;

const std::string online = R"(distill:
  mode: online
  teacher:
    from: runs/teacher
    parallel: {tensor: 2, pipeline: 2, virtual_stages: 2}
    precision: fp8-block
    micro_batch_size: 4
  objective: jsd
  beta: 0.1
  temperature: 2
  weight: [[0, 1], [1000, 0.5]]
)";

TEST(DistillKeys, AreReadWrittenAndCompared) {
  const Recipe r = parse_recipe(small_recipe() + online);
  EXPECT_TRUE(r.distill.online());
  EXPECT_EQ(r.distill.objective, DistillObjective::jensen_shannon);
  EXPECT_EQ(r.distill.teacher.compute, Compute::fp8_block);
  EXPECT_EQ(r.distill.teacher.parallel.virtual_stages, 2);
  EXPECT_EQ(r.distill.weight.at(2000), 0.5);
  EXPECT_TRUE(parse_recipe(to_yaml(r)) == r) << to_yaml(r);
  const Recipe plain = parse_recipe(small_recipe() + "distill: {mode: online, teacher: {from: runs/teacher}}\n");
  EXPECT_TRUE(parse_recipe(to_yaml(plain)) == plain) << to_yaml(plain);
  const auto changes = compare(r, parse_recipe(small_recipe() + online, "r", {"distill.temperature=1"}));
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].key, "distill.temperature");
}

TEST(DistillKeys, WhatDoesNotGoTogetherIsRefused) {
  const auto refused = [](const std::string& distill, const std::string& words) {
    const auto issues = issues_of(small_recipe() + "distill: " + distill + "\n");
    EXPECT_EQ(issues.size(), 1u) << distill << "\n" << all_of(issues);
    EXPECT_NE(all_of(issues).find(words), std::string::npos) << all_of(issues);
  };
  refused("{mode: online}", "found `online` without a teacher");
  refused("{mode: text, temperature: 2}", "found `distill.temperature` without a teacher in this job");
  refused("{mode: text, teacher: {from: runs/teacher}}", "found `distill.teacher.from` without a teacher in this job");
  refused("{mode: online, teacher: {from: a}, beta: 0.1}", "expected `distill.objective: jsd`");
  refused("{mode: online, teacher: {from: a}, objective: jsd, beta: 1}", "expected a share above 0 and below 1");
  refused("{mode: online, teacher: {from: a}, weight: 2}", "found the number 2 as `distill.weight`");
  refused("{mode: online, teacher: {from: a, parallel: {tensor: 0}}}",
          "found the number 0 as `distill.teacher.parallel.tensor`");
}

}  // namespace
}  // namespace fourmi
