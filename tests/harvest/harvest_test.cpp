// A harvest against a server that answers, fails, stalls and lies.
#include "framework/digest/sha256.h"
#include "tests/harvest/small_harvest.h"

namespace fourmi::testing {
namespace {

using harvest::End;
using nlohmann::json;

TEST_F(SmallHarvest, EachPromptIsAnsweredOnceWithItsProvenance) {
  endpoint.reasoning = "because";
  endpoint.delay_ms = 3;
  recipe.distill.harvest.temperature = 0.5;
  const harvest::Summary s = harvest_once();
  EXPECT_EQ(s.end, End::complete);
  EXPECT_EQ(s.lines, 12);
  EXPECT_EQ(endpoint.requests(), 12);
  EXPECT_LE(endpoint.most_at_once(), 4);
  EXPECT_GT(endpoint.most_at_once(), 1);
  EXPECT_LT(s.syncs, 14) << "reservations that wait together share an fsync";
  const std::vector<json> all = messages();
  ASSERT_EQ(all.size(), 12u);
  for (int i = 0; i < 12; ++i) {
    const json& m = all[static_cast<std::size_t>(i)];
    const std::string prompt = "prompt " + std::to_string(i);
    EXPECT_EQ(m["messages"].dump(), R"([{"content":")" + prompt + R"(","role":"user"},{"content":"answer to )" +
                                        prompt + R"(","reasoning_content":"because","role":"assistant"}])");
    const json& p = m["provenance"];
    EXPECT_EQ(p["prompt_source"], "maths");
    EXPECT_EQ(p["prompt_id"], (temp.path() / "prompts.jsonl").string() + ":" + std::to_string(i + 1));
    EXPECT_EQ(p["prompt_sha256"], sha256(prompt));
    EXPECT_EQ(p["prompt_license"], "Apache-2.0");
    EXPECT_EQ(p["teacher"], "Oracle");
    EXPECT_EQ(p["model"], "oracle-1");
    EXPECT_EQ("http://" + p["endpoint"].get<std::string>() + "/v1", endpoint.url());
    EXPECT_EQ(p["sampling"].dump(), R"({"max_tokens":10,"temperature":0.5})");
    EXPECT_EQ(p["license"], "MIT");
    EXPECT_EQ(p["time"].get<std::string>().size(), 20u);
    EXPECT_TRUE(p["request_id"].get<std::string>().starts_with("chat-"));
    EXPECT_EQ(p["digest"].get<std::string>().size(), 64u);
  }
  EXPECT_TRUE(is_complete());
}

TEST_F(SmallHarvest, WhatWasPaidForIsNeverAskedAgain) {
  harvest_once();
  const std::string first = text_of(harvest::messages_file(recipe.distill.harvest.output));
  EXPECT_EQ(harvest_once().end, End::complete);
  EXPECT_EQ(endpoint.requests(), 12);
  EXPECT_EQ(text_of(harvest::messages_file(recipe.distill.harvest.output)), first);
  prompts(15);  // more of them, later
  EXPECT_EQ(harvest_once().lines, 15);
  EXPECT_EQ(endpoint.requests(), 15);
  put_text(harvest::messages_file(recipe.distill.harvest.output), first + " ");
  EXPECT_NE(digest_file(harvest::messages_file(recipe.distill.harvest.output)).sha256, state().messages_sha256);
  recipe.distill.harvest.temperature = 1;
  const Error other = failure();
  EXPECT_EQ(other.status(), ExitStatus::usage);
  EXPECT_NE(std::string(other.what()).find("sampling {\"max_tokens\":10}"), std::string::npos) << other.what();
}

TEST_F(SmallHarvest, EveryFaultThatPassesIsWaitedFor) {
  const std::vector<Fault> faults{Fault::too_many, Fault::broken, Fault::truncated, Fault::closed, Fault::slow};
  endpoint.fault = [&](const std::string& prompt, int n) {
    const auto at = static_cast<std::size_t>(std::stoi(prompt.substr(7)) + n);
    return n < 2 ? faults[at % faults.size()] : Fault::none;
  };
  recipe.distill.harvest.timeout_seconds = 0.15;
  const harvest::Summary s = harvest_once();
  EXPECT_EQ(s.end, End::complete);
  EXPECT_EQ(endpoint.requests(), 36);
  EXPECT_EQ(s.progress.sent_again, 24);
  const std::vector<std::string> got = prompts_answered();
  EXPECT_EQ(got.size(), 12u);
  EXPECT_EQ(std::set<std::string>(got.begin(), got.end()).size(), 12u);
}

TEST_F(SmallHarvest, APauseThatTheServerAsksForIsKeptByAll) {
  prompts(3);
  std::atomic<int> early{0};
  std::atomic<std::int64_t> until{0};
  const auto now = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
  recipe.distill.harvest.concurrency = 1;
  endpoint.instead = [&](const httplib::Request&, httplib::Response& r) {
    if (until == 0) {
      until = now() + 1'000'000'000;
      r.status = 503;
      r.set_header("Retry-After", "1");
      return true;
    }
    early += now() < until;
    return false;
  };
  EXPECT_EQ(harvest_once().end, End::complete);
  EXPECT_EQ(early, 0);
  EXPECT_EQ(endpoint.requests(), 4);
}

TEST_F(SmallHarvest, WhatDoesNotPassEndsItAndNamesTheKey) {
  const auto refuse = [&](int status, const std::string& body) {
    endpoint.instead = [=](const httplib::Request&, httplib::Response& r) {
      r.status = status;
      r.set_content(body, "application/json");
      return true;
    };
    return failure();
  };
  EXPECT_EQ(refuse(401, "{}").place(), "distill.teacher.api_key_file");
  EXPECT_NE(refuse(404, "{}").place().find("distill.teacher.model"), std::string::npos);
  const Error sampling = refuse(400, R"({"error":{"message":"too hot","param":"temperature"}})");
  EXPECT_EQ(sampling.place(), "distill.harvest.sampling.temperature");
  EXPECT_NE(std::string(sampling.what()).find("status 400: too hot"), std::string::npos);
  EXPECT_TRUE(refuse(400, "{}").place().find("prompts.jsonl:") != std::string::npos);
  EXPECT_EQ(refuse(302, "").place(), "distill.teacher.endpoint");
  recipe.distill.harvest.retries = 2;
  const int before = endpoint.requests();
  recipe.distill.harvest.concurrency = 1;
  const Error broken = refuse(500, "");
  EXPECT_EQ(broken.status(), ExitStatus::environment);
  EXPECT_EQ(endpoint.requests() - before, 3);
  EXPECT_EQ(most_at_stake(), 0);
  EXPECT_FALSE(is_complete());
  recipe.distill.teacher.endpoint = "http://127.0.0.1:1/v1";  // nobody is there
  EXPECT_EQ(failure().status(), ExitStatus::environment);
  endpoint.instead = [](const auto&, auto&) { return false; };
  recipe.distill.teacher.endpoint = endpoint.url();
  EXPECT_EQ(harvest_once().end, End::complete) << "the same command goes on";
}

TEST_F(SmallHarvest, SpentAndReservedStayWithinTheBudget) {
  HarvestSection& h = recipe.distill.harvest;
  h.price_input = 1,
  h.price_output = 2;  // a request reserves (8 + 64) + 2 * 10 = 92 and costs 8 + 2 * 5 = 18 millionths
  h.currency = "EUR";
  h.cost = 150e-6;
  endpoint.delay_ms = 2;
  const harvest::Summary s = harvest_once();
  EXPECT_EQ(s.end, End::budget);
  EXPECT_EQ(s.spent, 4 * 18'000'000) << "of 150: a fifth request could have brought it to 164";
  EXPECT_EQ(s.lines, 4);
  EXPECT_LE(most_at_stake(), harvest::money_of(*h.cost));
  EXPECT_FALSE(is_complete());
  EXPECT_EQ(harvest_once().end, End::budget);
  EXPECT_EQ(endpoint.requests(), 4);
  h.cost = 1;
  EXPECT_EQ(harvest_once().end, End::complete);
  EXPECT_EQ(endpoint.requests(), 12);
}

TEST_F(SmallHarvest, WhatMayHaveCostCountsInFull) {
  HarvestSection& h = recipe.distill.harvest;
  prompts(3);
  h.concurrency = 1;
  h.price_input = 1, h.price_output = 2, h.cost = 1, h.currency = "EUR";
  const std::vector<Fault> faults{Fault::truncated, Fault::broken, Fault::no_usage};
  endpoint.fault = [&](const std::string& prompt, int n) {
    return n == 0 ? faults.at(static_cast<std::size_t>(prompt.back() - '0')) : Fault::none;
  };
  // The truncated one in full and its second answer by usage; the broken one nothing; the one without usage in full.
  EXPECT_EQ(harvest_once().spent, (92 + 18 + 18 + 92) * 1'000'000);
}

TEST_F(SmallHarvest, AVerifierKeepsWhatIsRightAndNoMoreThanAskedFor) {
  HarvestSection& h = recipe.distill.harvest;
  prompts(4);
  h.prompts[0].reference = "answer";
  h.samples = 4;
  h.verify_keep = 1;
  put_text(temp.path() / "verify.sh",
           "#!/bin/sh\nread line\ncase $line in *'\"answer\":\"right\",\"reference\":'[0-9]*) exit 0;; esac\nexit 1\n");
  h.verify_command = {"/bin/sh", (temp.path() / "verify.sh").string()};
  // Prompt i is right at its i-th answer, the last one never in time; wrong answers repeat.
  endpoint.answer = [](const std::string& prompt, int n) {
    const int i = prompt.back() - '0';
    return i < 3 && n == i ? "right" : "wrong";
  };
  const harvest::Summary s = harvest_once();
  EXPECT_EQ(s.end, End::complete);
  EXPECT_EQ(s.lines, 3);
  EXPECT_EQ(endpoint.by_prompt(),
            (std::map<std::string, int>{{"prompt 0", 1}, {"prompt 1", 2}, {"prompt 2", 3}, {"prompt 3", 4}}));
  for (const json& m : messages()) EXPECT_EQ(m["messages"][1]["content"], "right");
  // Another verifier judges again what was paid for, and asks for no more than it needs.
  h.verify_command = {"/bin/true"};
  EXPECT_EQ(harvest_once().lines, 4);
  EXPECT_EQ(endpoint.requests(), 10);
  h.verify_command = {"/nowhere/verify"};
  EXPECT_EQ(failure().place(), "distill.harvest.verify.command");
}

TEST_F(SmallHarvest, EqualAnswersAndEqualPromptsCountOnce) {
  put_text(temp.path() / "prompts.jsonl", "{\"problem\": \"a\"}\n\n{\"problem\": \"b\"}\n{\"problem\": \"a\"}\n");
  recipe.distill.harvest.samples = 4;
  endpoint.answer = [](const std::string& prompt, int n) { return prompt == "a" ? "same" : std::to_string(n / 2); };
  const harvest::Summary s = harvest_once();
  EXPECT_EQ(s.duplicate_prompts, 1);
  EXPECT_EQ(endpoint.requests(), 8);
  EXPECT_EQ(prompts_answered(), (std::vector<std::string>{"a", "b", "b"}));
}

TEST_F(SmallHarvest, AnswersThatWereCutOffAreKeptOnRequest) {
  endpoint.finish_reason = "length";
  EXPECT_EQ(harvest_once().lines, 0);
  recipe.distill.harvest.keep_unfinished = true;
  EXPECT_EQ(harvest_once().lines, 12);
  EXPECT_EQ(endpoint.requests(), 12) << "they were paid for";
}

TEST_F(SmallHarvest, StopsOnRequestAndGoesOn) {
  endpoint.delay_ms = 30;
  prompts(60);
  endpoint.instead = [&](const auto&, auto&) {
    stop = endpoint.requests() > 8;
    return false;
  };
  EXPECT_EQ(harvest_once().end, End::stopped);
  const int asked = endpoint.requests();
  EXPECT_LT(asked, 40);
  EXPECT_EQ(prompts_answered().size(), static_cast<std::size_t>(asked)) << "what was under way was waited for";
  EXPECT_FALSE(is_complete());
  endpoint.delay_ms = 0;
  endpoint.instead = [](const auto&, auto&) { return false; };
  stop = false;
  EXPECT_EQ(harvest_once().end, End::complete);
  EXPECT_EQ(endpoint.requests(), 60);
}

TEST_F(SmallHarvest, TheKeyIsSentAndStandsNowhere) {
  const std::string key = "sk-very-secret-0123";
  put_text(temp.path() / "key", key + "\n");
  recipe.distill.teacher.api_key_file = (temp.path() / "key").string();
  std::atomic<int> right{0};
  endpoint.instead = [&](const httplib::Request& q, httplib::Response& r) {
    right += q.get_header_value("Authorization") == "Bearer " + key;
    r.set_header("x-request-id", "for " + key);  // a server that repeats what it got
    return false;
  };
  endpoint.answer = [&](const std::string& prompt, int) { return prompt + " with " + key; };
  harvest_once();
  EXPECT_EQ(right, 12);
  prompts(13);
  endpoint.instead = [&](const httplib::Request&, httplib::Response& r) {
    r.status = 401;
    r.set_content(R"({"error":{"message":"bad key )" + key + "\"}}", "application/json");
    return true;
  };
  const Error refused = failure();
  EXPECT_NE(std::string(refused.what()).find("bad key [key]"), std::string::npos) << refused.what();
  std::string all = refused.what() + said;
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(recipe.distill.harvest.output))
    if (entry.is_regular_file()) all += text_of(entry.path()), ++files;
  EXPECT_EQ(files, 3);
  EXPECT_EQ(all.find(key), std::string::npos);
  put_text(temp.path() / "key", "two words\n");
  EXPECT_EQ(failure().status(), ExitStatus::input);
}

TEST_F(SmallHarvest, BadInputsAreNamed) {
  put_text(temp.path() / "prompts.jsonl", "{\"problem\": \"a\"}\n{\"text\": \"b\"}\n");
  const Error column = failure();
  EXPECT_TRUE(column.place().ends_with("prompts.jsonl:2")) << column.what();
  EXPECT_EQ(column.remedy(), "Name the prompts' column: distill.harvest.prompts.maths.column");
  prompts(2);
  recipe.distill.harvest.prompts[0].reference = "truth";
  EXPECT_TRUE(failure().place().ends_with("prompts.jsonl:1"));
  recipe.distill.teacher.terms.allows = {"chat"};
  EXPECT_EQ(failure().status(), ExitStatus::usage);
}

TEST_F(SmallHarvest, OneAtATimeInAFolder) {
  harvest_once();
  const harvest::Log held(log(), [](std::int64_t, const std::string&) {});
  EXPECT_EQ(failure().status(), ExitStatus::environment);
}

}  // namespace
}  // namespace fourmi::testing
