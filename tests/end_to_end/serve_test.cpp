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
  static json ask(int port, const json& request, const httplib::Headers& headers = {}) {
    httplib::Client client("127.0.0.1", port);
    client.set_read_timeout(60);
    const auto answer = client.Post("/v1/completions", headers, request.dump(), "application/json");
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
