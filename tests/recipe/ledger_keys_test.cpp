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

const std::string teacher_keys = R"(distill:
  mode: text
  teacher: {name: Oracle, license: MIT, terms: {file: t.txt, url: https://x.example/t, allows: [distill]}}
)";

TEST(LedgerKeys, PolicyIsHeldAgainstTheTeacher) {
  const std::string text =
      with(web, "- {name: web, path: /data/web.txt, license: MIT, sha256: " + std::string(64, 'a') + "}") +
      teacher_keys;
  const std::string policy = "ledger.policy.require=[license, digest, terms]", deny = "ledger.policy.deny=[no-distill]";
  EXPECT_TRUE(issues_of(text, {policy, deny}).empty()) << testing::all_of(issues_of(text, {policy, deny}));
  const auto refused = [&](std::vector<std::string> overrides, const std::string& key, const std::string& part) {
    overrides.insert(overrides.end(), {policy, deny});
    const std::string said = only(issues_of(text, overrides));
    EXPECT_TRUE(holds(said, part)) << said;
    EXPECT_TRUE(holds(said, key)) << said;
  };
  refused({"distill.teacher.terms.allows=[]"}, "distill.teacher.terms.allows", "(no-distill)");
  refused({"distill.teacher.terms.allows=[chat]"}, "chat", "distill was expected among them");
  refused({"distill.teacher.license=CC-BY-ND-4.0"}, "`Oracle`", "forbids what is made of it");
  const auto lacks = [&](const std::string& words, const std::string& part) {
    std::string without = text;
    const std::size_t at = text.find(words, text.find("Oracle"));
    without.erase(at, words.size());
    const std::string said = only(issues_of(without, {policy, deny}));
    EXPECT_TRUE(holds(said, part)) << said;
  };
  lacks("license: MIT, ", "found no license of the teacher `Oracle`");
  lacks("file: t.txt, ", "found no saved copy of the terms of the teacher `Oracle`");
  lacks("url: https://x.example/t, ", "found no address of the terms of the teacher `Oracle`");
  // Without a policy, only what the terms forbid.
  EXPECT_TRUE(issues_of(text, {"distill.teacher.terms.allows=[]"}).empty());
  EXPECT_TRUE(holds(only(issues_of(text, {"distill.teacher.terms.allows=[chat]"})), "distill was expected"));
  EXPECT_EQ(issues_of(text, {"ledger.policy.deny=[MIT]"}).size(), 2u);  // the source, and the teacher
  EXPECT_TRUE(holds(only(issues_of(text, {"ledger.policy.deny=[no-destill]"})), "Did you mean `no-distill`?"));
}

TEST(LedgerKeys, ObligationsBindTheRunsOwnExport) {
  const std::string text = small_recipe() + teacher_keys,
                    asks =
                        "distill.teacher.terms.obligations=['name-prefix:Llama', 'notice:Built with Llama', be kind]";
  EXPECT_TRUE(issues_of(text, {asks}).empty());
  EXPECT_TRUE(issues_of(text, {asks, "export.path=out/Llama-mine/"}).empty());
  const std::string wrong = only(issues_of(text, {asks, "export.path=out/mine"}));
  EXPECT_TRUE(holds(wrong, "`mine`") && holds(wrong, "`Oracle`") && holds(wrong, "`Llama-mine` would do")) << wrong;
  EXPECT_TRUE(issues_of(text, {asks, "export.path=out/mine", "export.when=never"}).empty());
  EXPECT_TRUE(holds(only(issues_of(text, {"distill.teacher.terms.obligations=['name_prefix:Llama']"})),
                    "Did you mean `name-prefix:`?"));
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
