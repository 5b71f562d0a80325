// Conversations over HTTP, and what texts begin with and end at.
#include <gtest/gtest.h>

#include "tests/serve/small_service.h"

namespace fourmi {
namespace {

TEST(Conversation, ConversationsGoThroughTheTemplate) {
  std::string seen;
  const SmallService s({}, nullptr, [&](const ChatRequest& c) {
    seen = c.messages + c.tools + c.variables;
    return std::string("hello");
  });
  const std::string ask = R"({"messages":[{"role":"user","content":"x"}],"max_tokens":5,"temperature":0)";
  const auto whole = s.post("/v1/chat/completions", ask + R"(,"logprobs":true,"top_logprobs":1})");
  ASSERT_EQ(whole.status, 200) << whole.body;
  EXPECT_EQ(seen, R"([{"role":"user","content":"x"}])");
  const auto& choice = whole.json["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"].get<std::string>().size(), 5U);
  EXPECT_EQ(choice["logprobs"]["content"].size(), 5U);
  EXPECT_EQ(whole.json["usage"]["prompt_tokens"], 5) << "the template says what a conversation begins with";
  const auto pieces = events(s.post("/v1/chat/completions", ask + R"(,"stream":true})").body);
  std::string joined;
  for (std::size_t i = 1; i + 2 < pieces.size(); ++i)
    joined += nlohmann::json::parse(pieces[i])["choices"][0]["delta"]["content"].get<std::string>();
  EXPECT_EQ(joined, choice["message"]["content"]);
  EXPECT_EQ(SmallService().post("/v1/chat/completions", ask + "}").status, 400) << "a model without a template";
}

const char* const letters_only =
    "{% for m in messages %}{% if m.role == 'nobody' %}{{ raise_exception('nobody is no role') }}{% endif %}"
    "{{ m.content }}{% endfor %}{% if tools %}{{ tools[0].function.name }}{% endif %}{% if quiet %}q{% endif %}";

TEST(Conversation, ATemplateOfTheModelWritesThePrompt) {
  const ModelChat model(ChatTemplate(letters_only, "/secret/folder/chat_template.jinja"), {});
  const SmallService s({}, nullptr, [&](const ChatRequest& c) { return chat_prompt(model, c, 0); });
  const auto chat = [&](const std::string& more) {
    return s.post("/v1/chat/completions", R"({"max_tokens":6,"temperature":0,)" + more + "}");
  };
  const auto text_after = [&](const std::string& ids) {  // a prompt of ids has nothing before it, as a conversation
    return s.post("/v1/completions", R"({"prompt":)" + ids + R"(,"max_tokens":6,"temperature":0})")
        .json["choices"][0]["text"];
  };
  const auto content = [](const SmallService::Answer& a) { return a.json["choices"][0]["message"]["content"]; };
  const std::string user = R"("messages":[{"role":"user","content":"abc"}])";
  const auto whole = chat(user);
  ASSERT_EQ(whole.status, 200) << whole.body;
  EXPECT_EQ(content(whole), text_after("[0,1,2]"));
  EXPECT_EQ(whole.json["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(content(chat(R"("messages":[{"role":"user","content":[{"type":"text","text":"abc"}]}])")), content(whole));
  EXPECT_EQ(content(chat(user + R"(,"tools":[{"type":"function","function":{"name":"de"}}])")),
            text_after("[0,1,2,3,4]"));
  EXPECT_EQ(content(chat(user + R"(,"chat_template_kwargs":{"quiet":true})")), text_after("[0,1,2,16]"));
  EXPECT_EQ(content(chat(R"("messages":[{"role":"assistant","content":"a"},{"role":"tool","content":"b"}])")),
            text_after("[0,1]"));
  std::string joined;
  const auto pieces = events(chat(user + R"(,"stream":true)").body);
  for (std::size_t i = 1; i + 2 < pieces.size(); ++i)
    joined += nlohmann::json::parse(pieces[i])["choices"][0]["delta"]["content"].get<std::string>();
  EXPECT_EQ(joined, content(whole));

  const auto refused = chat(R"("messages":[{"role":"nobody","content":"a"}])");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.json["error"]["message"], "chat_template.jinja:1: the template refuses: nobody is no role");
  EXPECT_EQ(chat(R"("messages":[{"role":"user","content":{}}])").json["error"]["param"], "messages[0].content");
  EXPECT_EQ(chat(user + R"(,"chat_template_kwargs":[])").json["error"]["param"], "chat_template_kwargs");
  EXPECT_EQ(chat(user + R"(,"chat_template":"x")").json["error"]["param"], "chat_template");
}

TEST(Conversation, AnyOfTheModelsEndsEndsAText) {
  const std::string ask = R"({"prompt":"abc","max_tokens":40,"seed":1,"temperature":3})";
  const std::string text = SmallService().post("/v1/completions", ask).json["choices"][0]["text"];
  ASSERT_EQ(text.size(), 40U);
  const auto end = static_cast<std::int32_t>(text[5] - 'a');
  SmallWriter writer(4, 64, 100, {-1, end});
  const SmallService s({}, &writer);
  const auto ended = s.post("/v1/completions", ask).json;
  EXPECT_EQ(ended["choices"][0]["text"], text.substr(0, text.find(text[5])));
  EXPECT_EQ(ended["choices"][0]["finish_reason"], "stop");
}

TEST(Conversation, ATextBeginsAsItsModelKnowsTexts) {
  const auto first_logprobs = [](std::optional<std::int32_t> begin) {
    SmallWriter writer;
    const ChatPrompt none;
    ServiceOptions options;
    options.model = "small";
    options.port = 0;
    options.begin_of_text = begin;
    Service service(options, writer.letters, writer.batcher, none);
    const int port = service.bind();
    std::thread thread([&] { service.run(); });
    httplib::Client c("127.0.0.1", port);
    while (!c.Get("/health")) std::this_thread::yield();
    const auto ask = [&](const char* prompt) {
      const auto answer =
          c.Post("/v1/completions", std::string(R"({"max_tokens":0,"echo":true,"logprobs":0,"prompt":)") + prompt + "}",
                 "application/json");
      return nlohmann::json::parse(answer->body);
    };
    const auto text = ask(R"("ab")")["choices"][0]["logprobs"], empty = ask("\"\"")["usage"]["prompt_tokens"];
    service.stop();
    thread.join();
    return std::pair(text["token_logprobs"], empty);
  };
  const auto [nothing, of_nothing] = first_logprobs({});
  EXPECT_TRUE(nothing[0].is_null());
  EXPECT_EQ(of_nothing, 1);
  const auto [opened, of_opened] = first_logprobs(5);
  ASSERT_EQ(opened.size(), 2U);
  EXPECT_LT(opened[0].get<double>(), 0);
  EXPECT_NE(opened[1], nothing[1]) << "what stands before is seen";
  EXPECT_EQ(of_opened, 1);
}

}  // namespace
}  // namespace fourmi
