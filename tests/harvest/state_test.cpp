// What a harvest says of itself beside its messages, for those that learn from them.
#include "framework/digest/sha256.h"
#include "tests/harvest/small_harvest.h"

namespace fourmi::testing {
namespace {

using nlohmann::json;

TEST_F(SmallHarvest, TheStateNamesTeacherTermsPromptsAndCounts) {
  TeacherSection& t = recipe.distill.teacher;
  put_text(temp.path() / "terms.txt", "the terms");
  t.terms = {(temp.path() / "terms.txt").string(), "https://teacher.example/terms", {"distill"}, {"name me"}};
  recipe.distill.harvest.temperature = 0.5;
  recipe.distill.harvest.verify_command = {"grep", "-q", "prompt 1"};  // of 12: 1, 10 and 11
  harvest_once();
  const HarvestFact f = state();
  EXPECT_TRUE(f.complete);
  EXPECT_EQ(f.teacher, "Oracle");
  EXPECT_EQ(f.model, "oracle-1");
  EXPECT_EQ("http://" + f.endpoint + "/v1", endpoint.url());
  EXPECT_EQ(f.license, "MIT");
  EXPECT_EQ(f.terms_url, "https://teacher.example/terms");
  EXPECT_EQ(f.terms_sha256, sha256("the terms"));
  EXPECT_EQ(f.allows, std::vector<std::string>{"distill"});
  EXPECT_EQ(f.obligations, std::vector<std::string>{"name me"});
  EXPECT_EQ(json::parse(f.sampling), (json{{"temperature", 0.5}, {"max_tokens", 10}}));
  EXPECT_EQ(f.prompts, 12);
  EXPECT_EQ(f.prompts_done, 12);
  EXPECT_EQ(f.answers, 12);
  EXPECT_EQ(f.kept, 3);
  std::string keys;
  for (int i = 0; i < 12; ++i) keys += sha256("prompt " + std::to_string(i)) + "\n";
  EXPECT_EQ(f.prompts_sha256, sha256(keys));
  EXPECT_EQ(f.messages_sha256, digest_file(harvest::messages_file(recipe.distill.harvest.output)).sha256);
  const std::string log_text = text_of(log());  // its last record begins with its length, a check and its digest
  const std::size_t last = log_text.rfind('\n', log_text.size() - 2) + 1;
  EXPECT_EQ(f.log_sha256, log_text.substr(last + 18, 64));
  // Into the ledger and back.
  const LedgerEntry entry = make_entry(nullptr, HarvestFact::type, to_payload(f), "2026-11-24T00:00:00Z");
  EXPECT_EQ(to_payload(harvest_fact(entry, "ledger")), entry.payload);
  EXPECT_EQ(to_payload(harvest_fact(parse_line(to_line(entry)).value(), "ledger")), entry.payload);
  EXPECT_THROW(harvest_fact(make_entry(nullptr, HarvestFact::type, R"({"complete": true})", ""), "ledger"), Error);
}

TEST_F(SmallHarvest, WhileItGoesOnTheStateSaysSoAndKeepsTheDigestOfTheLastEnd) {
  EXPECT_FALSE(holds_harvest(recipe.distill.harvest.output));
  harvest_once();
  EXPECT_TRUE(holds_harvest(recipe.distill.harvest.output));
  const std::string messages_sha256 = state().messages_sha256;
  prompts(15);
  HarvestFact seen;
  endpoint.instead = [&](const auto&, auto& r) {
    seen = state();
    r.status = 401;
    return true;
  };
  EXPECT_EQ(failure().status(), ExitStatus::input);
  EXPECT_FALSE(seen.complete);
  EXPECT_EQ(seen.prompts, 15);
  EXPECT_EQ(seen.prompts_done, 12);
  EXPECT_EQ(seen.messages_sha256, messages_sha256);
  EXPECT_FALSE(state().complete) << "an error is no end";
  put_text(harvest::state_file(recipe.distill.harvest.output), "{\"complete\": true}");
  EXPECT_THROW(state(), Error);
}

}  // namespace
}  // namespace fourmi::testing
