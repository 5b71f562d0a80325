// fourmi serve as a user starts, asks and stops it.
#include <httplib.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

using nlohmann::json;

class Serve : public Scene {
 protected:
  /// What the program says is read while it runs.
  Words words(const Words& more) const {
    std::string line;
    for (const std::string& w : fourmi({"serve", run_directory("run"), "--port", "0", "--json"}))
      line += "'" + w + "' ";
    for (const std::string& w : more) line += "'" + w + "' ";
    return {"/bin/sh", "-c", "exec " + line + "> " + said()};
  }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder() / name) << bytes;
    return (folder() / name).string();
  }
  std::string said() const { return (folder() / "said").string(); }
  int port() const {
    const bool speaks = wait_until([&] { return text_of(said()).find('\n') != std::string::npos; });
    return speaks ? json::parse(text_of(said()))["port"].get<int>() : 0;
  }
  static json ask(int port, const json& request, const httplib::Headers& headers = {},
                  const char* path = "/v1/completions") {
    httplib::Client client("127.0.0.1", port);
    client.set_read_timeout(60);
    const auto answer = client.Post(path, headers, request.dump(), "application/json");
    return answer ? json::parse(answer->body) : json();
  }
};

TEST_F(Serve, WritesWhatGenerateWritesUntilItIsAskedToStop) {
  expect_ok(run(train("run", 0)));
  const Result alone = run(fourmi(
      {"generate", run_directory("run"), "--prompt", "Hello", "--max-tokens", "12", "--temperature", "0", "--json"}));
  expect_ok(alone);

  Process server(words({"--texts", "2"}));
  const int p = port();
  ASSERT_GT(p, 0);
  const json request{{"prompt", "Hello"}, {"max_tokens", 12}, {"temperature", 0}};
  const json answer = ask(p, request);
  ASSERT_TRUE(answer.contains("choices")) << answer;
  EXPECT_EQ("Hello" + answer["choices"][0]["text"].get<std::string>(), json::parse(alone.output)["text"]);
  EXPECT_EQ(answer["model"], "run");
  server.signal(SIGTERM);
  const Result ended = server.wait(Seconds(30));
  expect_ok(ended);
  EXPECT_EQ(ended.lines("fourmi: the server has ended").size(), 1u);
}

TEST_F(Serve, AnswersConversationsAsGenerateDoes) {
  expect_ok(run(train("parent", 0)));
  const auto companions = run_directory("parent") / "huggingface";
  std::filesystem::create_directories(companions);
  std::ofstream(companions / "chat_template.jinja")
      << "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}<a>";
  std::ofstream(companions / "tokenizer_config.json") << R"({"eos_token": "\n"})";
  // A run that begins from a model takes its template along, and stands by itself.
  expect_ok(run(train("run", 0, {"model.from=" + run_directory("parent").string(), "run.steps=2"})));
  std::filesystem::remove_all(run_directory("parent"));

  const Words asked{"--max-tokens", "12", "--temperature", "1", "--seed", "3", "--json"};
  const auto generate = [&](Words words) {
    words.insert(words.begin(), {"generate", run_directory("run").string()});
    words.insert(words.end(), asked.begin(), asked.end());
    const Result result = run(fourmi(words));
    expect_ok(result);
    return result.status == 0 ? json::parse(result.output) : json();
  };
  const json alone = generate({"--prompt", "Hi", "--chat"});
  EXPECT_EQ(alone["prompt_tokens"], std::string("<user>Hi\n<a>").size());
  EXPECT_EQ(alone["text"].get<std::string>().find('\n'), std::string::npos) << "it ends a text";
  const json messages = json::array({{{"role", "user"}, {"content", "Hi"}}});
  EXPECT_EQ(generate({"--messages", write("list.json", messages.dump())}), alone);
  EXPECT_EQ(generate({"--messages", write("object.json", json{{"messages", messages}}.dump())}), alone);
  const std::string other = write("other.jinja", "{{ messages[0].content }}");
  EXPECT_EQ(generate({"--prompt", "Hi", "--chat", "--chat-template", other})["prompt_tokens"], 2);
  EXPECT_EQ(run(fourmi({"generate", run_directory("run"), "--messages", write("no.json", "{}")})).status, 4);

  Process server(words({"--chat-template", other}));
  const int p = port();
  ASSERT_GT(p, 0);
  EXPECT_EQ(json::parse(text_of(said()))["conversations"], true);
  const json request{{"messages", messages}, {"max_tokens", 12}, {"temperature", 1}, {"seed", 3}};
  const json answer = ask(p, request, {}, "/v1/chat/completions");
  ASSERT_TRUE(answer.contains("choices")) << answer;
  EXPECT_EQ(answer["choices"][0]["message"]["content"],
            generate({"--prompt", "Hi", "--chat", "--chat-template", other})["text"]);
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 2);
}

TEST_F(Serve, AKeyIsAFilesAndWhatCannotBeIsRefused) {
  expect_ok(run(train("run", 0)));
  {
    Process server(words({"--api-key-file", write("key", " secret \n")}));
    const int p = port();
    ASSERT_GT(p, 0);
    EXPECT_EQ(ask(p, {{"prompt", "a"}})["error"]["type"], "authentication_error");
    EXPECT_TRUE(ask(p, {{"prompt", "a"}}, {{"Authorization", "Bearer secret"}}).contains("choices"));
    const Result taken = run(fourmi({"serve", run_directory("run"), "--port", std::to_string(p)}));
    EXPECT_EQ(taken.status, 3) << to_string(taken);
    EXPECT_EQ(taken.error_lines().size(), 1u);
  }
  EXPECT_EQ(run(fourmi({"serve", run_directory("run"), "--api-key-file", write("key", "\n")})).status, 4);
  EXPECT_EQ(run(fourmi({"serve", run_directory("run"), "--context", "33"})).status, 2);
  EXPECT_EQ(run(fourmi({"serve", run_directory("nothing")})).status, 4);
}

}  // namespace
}  // namespace fourmi::testing
