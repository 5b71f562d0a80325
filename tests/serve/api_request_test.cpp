// Requests as clients write them, and those that are refused: each by the name of the field at fault.
#include "framework/serve/api_request.h"

#include <gtest/gtest.h>

namespace fourmi {
namespace {

ApiRequest completion(const std::string& body) {
  return parse_api_request(body, false);
}

std::string refused(const std::string& body, bool chat = false) {
  try {
    parse_api_request(body, chat);
  } catch (const ApiError& e) {
    EXPECT_EQ(e.status, 400);
    return e.param.empty() ? e.what() : e.param;
  }
  return "(nothing)";
}

TEST(ApiRequest, TakesWhatAHarnessSends) {
  const ApiRequest r = completion(
      R"({"model":"m","prompt":[[1,2,3],[4]],"temperature":0,"max_tokens":1,"logprobs":1,"seed":1234,"echo":true})");
  ASSERT_EQ(r.prompts.size(), 2U);
  EXPECT_EQ(r.prompts[0].tokens, (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_FALSE(r.prompts[0].is_text);
  EXPECT_EQ(r.max_tokens, 1);
  EXPECT_EQ(r.num_likeliest, 1);
  EXPECT_EQ(r.sampling.seed, 1234U);
  EXPECT_EQ(r.sampling.temperature, 0);
  EXPECT_TRUE(r.echo && r.has_seed && !r.stream);
}

TEST(ApiRequest, TakesEveryShapeOfAPrompt) {
  EXPECT_EQ(completion(R"({"prompt":"abc"})").prompts[0].text, "abc");
  EXPECT_EQ(completion(R"({"prompt":["a","b"]})").prompts[1].text, "b");
  EXPECT_EQ(completion(R"({"prompt":[5,6]})").prompts[0].tokens.size(), 2U);
  EXPECT_EQ(completion(R"({"prompt":[[5,6],"a"]})").prompts[0].tokens[1], 6);
  EXPECT_EQ(completion(R"({"prompt":"","max_tokens":null,"stop":null})").max_tokens, 16);
}

TEST(ApiRequest, TakesConversations) {
  const ApiRequest r = parse_api_request(
      R"({"messages":[{"role":"user","content":"hi"}],"max_completion_tokens":7,"logprobs":true,"top_logprobs":2,
          "stream":true,"stream_options":{"include_usage":true},"stop":"x","n":1,"presence_penalty":0})",
      true);
  EXPECT_EQ(r.messages, R"([{"role":"user","content":"hi"}])");
  EXPECT_EQ(r.max_tokens, 7);
  EXPECT_EQ(r.num_likeliest, 2);
  EXPECT_TRUE(r.stream && r.stream_usage);
  EXPECT_EQ(r.stops, std::vector<std::string>{"x"});
}

// Two million brackets in a field that is copied and written again would take all of a thread's stack.
TEST(ApiRequest, RefusesBracketsWithoutEnd) {
  const std::string open(1 << 21, '['), close(1 << 21, ']');
  const std::string depth = "the body has more than 500 lists and objects in each other";
  EXPECT_EQ(refused(R"({"messages":)" + open + close + "}", true), depth);
  EXPECT_EQ(refused(R"({"prompt":"a","stop":)" + open + close + "}"), depth);
  EXPECT_EQ(refused(R"({"prompt":)" + open), depth);
  EXPECT_EQ(completion(R"({"prompt":")" + open + "\\\"[[\"}").prompts[0].text, open + "\"[[") << "text is no bracket";
  EXPECT_EQ(refused(R"({"prompt":"a","stop":)" + open.substr(0, 400) + close.substr(0, 400) + "}"), "stop");
}

// Keys keep their order, for templates, so finding one takes the longer the more there are.
TEST(ApiRequest, RefusesObjectsOfManyKeys) {
  std::string many = R"({"prompt":"a")", inner = "{";
  for (int i = 0; i < 2000; ++i) {
    many += R"(,"k)" + std::to_string(i) + R"(":1)";
    inner += (i ? R"(,"k)" : R"("k)") + std::to_string(i) + R"(":{})";
  }
  EXPECT_EQ(refused(many + "}"), "an object of more than 1024 keys was found");
  EXPECT_EQ(refused(R"({"messages":[)" + inner + "}]}", true), "an object of more than 1024 keys was found");
}

TEST(ApiRequest, RefusesByName) {
  EXPECT_EQ(refused("{"), "the body is no JSON");
  EXPECT_EQ(refused("[1]"), "a JSON object was expected");
  EXPECT_EQ(refused("{}"), "prompt");
  EXPECT_EQ(refused("{}", true), "messages");
  const std::vector<std::pair<std::string, std::string>> fields{{"max_tokens", "-1"},
                                                                {"max_tokens", "1.5"},
                                                                {"max_tokens", "99999999999"},
                                                                {"max_tokens", "18446744073709551615"},
                                                                {"temperature", "-1"},
                                                                {"temperature", "\"hot\""},
                                                                {"top_p", "2"},
                                                                {"n", "2"},
                                                                {"best_of", "3"},
                                                                {"presence_penalty", "0.5"},
                                                                {"logit_bias", R"({"5":1})"},
                                                                {"suffix", "\"x\""},
                                                                {"echo", "1"},
                                                                {"stop", "[\"\"]"},
                                                                {"stop", "5"},
                                                                {"logprobs", "21"},
                                                                {"logprobs", "true"},
                                                                {"seed", "\"a\""},
                                                                {"stream_options", "1"},
                                                                {"no_such_field", "1"}};
  for (const auto& [name, value] : fields)
    EXPECT_EQ(refused(R"({"prompt":"a",")" + name + "\":" + value + "}"), name) << value;
  for (const char* prompt : {"[]", "5", "{}", "[[]]", "[-1]", "[4294967296]", "[1.5]", "[[\"a\"]]", "[null]"})
    EXPECT_EQ(refused(std::string(R"({"prompt":)") + prompt + "}"), "prompt") << prompt;
  EXPECT_EQ(refused(R"({"prompt":["a","b"],"stream":true})"), "stream");
  EXPECT_EQ(refused(R"({"messages":[{}],"top_logprobs":2})", true), "top_logprobs");
  EXPECT_EQ(refused(R"({"messages":[{}],"tool_choice":"required"})", true), "tool_choice");
  EXPECT_EQ(refused(std::string(400, '[')), "the body is no JSON");
}

}  // namespace
}  // namespace fourmi
