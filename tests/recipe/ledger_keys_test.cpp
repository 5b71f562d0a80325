// The keys of ledger and budget, and the terms of sources: every error named at its place.
#include <gtest/gtest.h>

#include "framework/recipe/compare.h"
#include "framework/recipe/policy.h"
#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::issues_of;
using testing::small_recipe;
using testing::with;

/// The one error, as text.
std::string only(const std::vector<RecipeIssue>& issues) {
  EXPECT_EQ(issues.size(), 1u) << testing::all_of(issues);
  return issues.empty() ? "" : issues[0].text();
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const std::string web = "- {name: web, path: /data/web.txt, weight: 2}";

TEST(LedgerKeys, TermsAreCheckedWithTheirPlace) {
  EXPECT_TRUE(issues_of(with(web, "- {name: web, path: /data/web.txt, license: CC-BY-4.0 AND LicenseRef-x}")).empty());
  const std::string wrong = only(issues_of(with(web, "- {name: web, path: /data/web.txt, license: cc-by-4.0}")));
  EXPECT_TRUE(holds(wrong, "recipe:")) << wrong;
  EXPECT_TRUE(holds(wrong, "`cc-by-4.0`") && holds(wrong, "Did you mean `CC-BY-4.0`?")) << wrong;
  const std::string validation = "validation: [{name: held, path: /data/held.txt, license: nonsense-9}]";
  EXPECT_TRUE(holds(only(issues_of(with("validation: {holdout: 0.1}", validation))), "nonsense-9"));
  EXPECT_TRUE(holds(only(issues_of(with(web, "- {name: web, path: /data/web.txt, sha256: abc}"))), "64 lower-case"));
  const std::string digest(64, 'a');
  EXPECT_TRUE(issues_of(with(web, "- {name: web, path: /data/web.txt, sha256: " + digest + "}")).empty());
  EXPECT_TRUE(holds(only(issues_of(with("- {name: made-up, format: synthetic}",
                                        "- {name: made-up, format: synthetic, sha256: " + digest + "}"))),
                    "synthetic"));
}

TEST(LedgerKeys, PolicyIsHeldAgainstWhatTheRecipeSays) {
  const std::string licensed = with(web, "- {name: web, path: /data/web.txt, license: CC-BY-NC-4.0}");
  EXPECT_TRUE(issues_of(licensed, {"ledger.policy.require=[license]"}).empty());
  EXPECT_TRUE(holds(only(issues_of(small_recipe(), {"ledger.policy.require=[license]"})),
                    "found no license of the source `web`"));
  EXPECT_TRUE(holds(only(issues_of(licensed, {"ledger.policy.require=[license, digest]"})), "data.train.web.sha256"));
  EXPECT_TRUE(
      holds(only(issues_of(licensed, {"ledger.policy.deny=[share-alike, non-commercial]"})), "(non-commercial)"));
  EXPECT_TRUE(issues_of(licensed, {"ledger.policy.deny=[share-alike, GPL-2.0-only]"}).empty());
  EXPECT_TRUE(holds(only(issues_of(licensed, {"ledger.policy.deny=[GPL-2.0]"})), "GPL-2.0-only"));
  EXPECT_TRUE(holds(only(issues_of(licensed, {"ledger.policy.require=[licence]"})), "Did you mean `license`?"));
  EXPECT_TRUE(holds(only(issues_of(licensed, {"ledger.policy.require=license"})), "expected a list of"));
  EXPECT_TRUE(holds(only(issues_of(licensed, {"ledger.policy.deny=[3]"})), "expected a list"));
}

TEST(LedgerKeys, WhatASideFileMaySayIsNotRefusedEarly) {
  const LedgerSection policy{{"license", "digest", "source"}, {"non-commercial"}};
  EXPECT_TRUE(breach(policy, {"web", "", "", false, false}, false));
  EXPECT_FALSE(breach(policy, {"web", "", "", false, false}, true));
  EXPECT_TRUE(breach(policy, {"web", "CC-BY-NC-4.0", "", false, false}, true));
  EXPECT_FALSE(breach(policy, {"web", "MIT", "somewhere", true, false}, false));
  EXPECT_FALSE(breach(policy, {"made", "", "", false, true}, false));
  EXPECT_TRUE(breach(policy, {"made", "CC-BY-NC-4.0", "", false, true}, false));  // but what is given counts
}

TEST(LedgerKeys, BudgetNeedsAPriceAndACurrency) {
  EXPECT_TRUE(issues_of(small_recipe(), {"budget.gpu_hours=4"}).empty());
  EXPECT_TRUE(
      issues_of(small_recipe(), {"budget.cost=4", "budget.price_per_gpu_hour=2.5", "budget.currency=EUR"}).empty());
  EXPECT_TRUE(holds(only(issues_of(small_recipe(), {"budget.cost=4"})), "budget.price_per_gpu_hour"));
  EXPECT_TRUE(holds(only(issues_of(small_recipe(), {"budget.currency=euro"})), "three capital letters"));
  EXPECT_TRUE(holds(only(issues_of(small_recipe(), {"budget.gpu_hours=0"})), "above 0"));
  EXPECT_TRUE(holds(only(issues_of(small_recipe(), {"model.from=runs/a", "checkpoint.resume=runs/b"})), "one of them"));
}

TEST(LedgerKeys, AreWrittenAndReadBackAndFree) {
  const std::vector<std::string> overrides{"ledger.policy.require=[license]",
                                           "ledger.policy.deny=[custom, GPL-2.0-only]", "budget.cost=4.5",
                                           "budget.price_per_gpu_hour=2", "budget.currency=CHF"};
  const std::string text = with(web, "- {name: web, path: /data/web.txt, license: MIT}");
  const Recipe r = parse_recipe(text, "recipe", overrides);
  EXPECT_TRUE(parse_recipe(to_yaml(r)) == r) << to_yaml(r);
  for (const ChangedKey& c : compare(parse_recipe(text), r)) EXPECT_EQ(c.key_class, recipe::KeyClass::free) << c.key;
  EXPECT_EQ(compare(parse_recipe(text), r).size(), 5u);
  EXPECT_EQ(to_yaml(parse_recipe(text)).find("ledger"), std::string::npos);
  EXPECT_EQ(to_yaml(parse_recipe(text)).find("budget"), std::string::npos);
}

}  // namespace
}  // namespace fourmi
