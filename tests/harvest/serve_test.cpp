// A harvest of what fourmi's own server writes.
#include "tests/harvest/small_harvest.h"
#include "tests/serve/small_service.h"

namespace fourmi::testing {
namespace {

TEST_F(SmallHarvest, FourmisOwnServerIsATeacher) {
  ServiceOptions options;
  options.api_key = "a-key-of-its-own";
  const SmallService server(options, nullptr, [](const ChatRequest& c) {
    return nlohmann::json::parse(c.messages)[0]["content"].get<std::string>();
  });
  put_text(temp.path() / "key", options.api_key);
  put_text(temp.path() / "prompts.jsonl", "{\"problem\": \"abc\"}\n{\"problem\": \"hello\"}\n{\"problem\": \"abc\"}\n");
  recipe.distill.teacher.endpoint = "http://127.0.0.1:" + std::to_string(server.port) + "/v1/";
  recipe.distill.teacher.model = "small";
  recipe.distill.teacher.api_key_file = (temp.path() / "key").string();
  HarvestSection& h = recipe.distill.harvest;
  h.max_tokens = 6;
  h.temperature = 0;
  h.keep_unfinished = true;
  h.price_input = 1, h.price_output = 1, h.currency = "EUR";
  const harvest::Summary s = harvest_once();
  EXPECT_EQ(s.lines, 2);
  EXPECT_EQ(s.input_tokens, 8);
  EXPECT_EQ(s.output_tokens, 12);
  EXPECT_EQ(s.spent, 20'000'000);
  const std::vector<nlohmann::json> all = messages();
  const auto answer = server.post("/v1/chat/completions",
                                  R"({"messages":[{"role":"user","content":"hello"}],"max_tokens":6,"temperature":0})",
                                  {{"Authorization", "Bearer " + options.api_key}});
  EXPECT_EQ(all[1]["messages"][1]["content"], answer.json["choices"][0]["message"]["content"]);
  recipe.distill.teacher.model = "another";
  h.output += "2";
  EXPECT_NE(failure().place().find("distill.teacher.model"), std::string::npos);
}

}  // namespace
}  // namespace fourmi::testing
