// The server as its clients see it.
#include "framework/serve/service.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include "tests/serve/small_service.h"

namespace fourmi {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// What the server says to these bytes, until it closes the connection.
std::string raw(int port, const std::string& bytes) {
  const int s = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(s, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = ::send(s, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) break;
    sent += static_cast<std::size_t>(n);
  }
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::recv(s, buffer, sizeof(buffer), 0)) > 0;)
    answer.append(buffer, static_cast<std::size_t>(n));
  ::close(s);
  return answer;
}

TEST(Service, SaysTheSameWholeStreamedAndToManyClients) {
  const SmallService s;
  const std::string ask = R"({"model":"small","prompt":"abc","max_tokens":12,"temperature":0)";
  const auto alone = s.post("/v1/completions", ask + "}");
  ASSERT_EQ(alone.status, 200) << alone.body;
  const auto& choice = alone.json["choices"][0];
  const std::string text = choice["text"];
  EXPECT_EQ(text.size(), 12U);
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_TRUE(choice["logprobs"].is_null());
  EXPECT_EQ(alone.json["usage"]["prompt_tokens"], 4) << "what a text begins behind counts";
  EXPECT_EQ(alone.json["usage"]["completion_tokens"], 12);

  std::vector<std::thread> clients;
  std::vector<std::string> texts(12);
  for (std::string& t : texts)
    clients.emplace_back([&] { t = s.post("/v1/completions", ask + "}").json["choices"][0]["text"]; });
  for (std::thread& t : clients) t.join();
  for (const std::string& t : texts) EXPECT_EQ(t, text);

  const auto streamed = s.post("/v1/completions", ask + R"(,"stream":true,"stream_options":{"include_usage":true}})");
  const auto pieces = events(streamed.body);
  ASSERT_EQ(pieces.size(), 15U) << streamed.body;
  std::string joined;
  for (std::size_t i = 0; i < 13; ++i)
    joined += nlohmann::json::parse(pieces[i])["choices"][0]["text"].get<std::string>();
  EXPECT_EQ(joined, text);
  EXPECT_EQ(nlohmann::json::parse(pieces[12])["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(nlohmann::json::parse(pieces[13])["usage"]["total_tokens"], 16);
  EXPECT_EQ(pieces[14], "[DONE]");
}

TEST(Service, ASeedDecidesAndAStopTextEnds) {
  const SmallService s;
  const std::string ask = R"({"prompt":"abc","max_tokens":20,"seed":)";
  const std::string a = s.post("/v1/completions", ask + "3}").json["choices"][0]["text"];
  const std::string b = s.post("/v1/completions", ask + "3}").json["choices"][0]["text"];
  const std::string c = s.post("/v1/completions", ask + "4}").json["choices"][0]["text"];
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
  const auto stopped = s.post("/v1/completions", ask + R"(3,"stop":[")" + a.substr(5, 3) + "\"]}").json["choices"][0];
  EXPECT_EQ(stopped["text"], a.substr(0, a.find(a.substr(5, 3))));
  EXPECT_EQ(stopped["finish_reason"], "stop");
}

TEST(Service, ScoresAPromptOfTokens) {
  const SmallService s;
  const auto scored = s.post("/v1/completions",
                             R"({"prompt":[[3,1,4,1],[2,6]],"max_tokens":0,"echo":true,"logprobs":2,"temperature":0})");
  ASSERT_EQ(scored.status, 200) << scored.body;
  const auto& first = scored.json["choices"][0];
  EXPECT_EQ(first["text"], "dbeb");
  EXPECT_EQ(first["logprobs"]["tokens"], (std::vector<std::string>{"d", "b", "e", "b"}));
  EXPECT_EQ(first["logprobs"]["text_offset"], (std::vector<int>{0, 1, 2, 3}));
  EXPECT_TRUE(first["logprobs"]["token_logprobs"][0].is_null());
  EXPECT_LT(first["logprobs"]["token_logprobs"][3].get<double>(), 0);
  EXPECT_EQ(first["logprobs"]["top_logprobs"][1].size(), 2U);
  EXPECT_EQ(scored.json["choices"][1]["text"], "cg");
  EXPECT_EQ(scored.json["usage"]["completion_tokens"], 0);
  // A text begins behind the end of another: its first token is known.
  const auto text = s.post("/v1/completions", R"({"prompt":"cada","max_tokens":1,"echo":true,"logprobs":0})").json;
  EXPECT_EQ(text["choices"][0]["logprobs"]["tokens"].size(), 5U);
  EXPECT_LT(text["choices"][0]["logprobs"]["token_logprobs"][0].get<double>(), 0);
}

TEST(Service, RefusesWhatItCannotDo) {
  ServiceOptions options;
  options.api_key = "secret";
  options.max_body = 1000;
  const SmallService s(options);
  const httplib::Headers key{{"Authorization", "Bearer secret"}};
  const std::string ask = R"({"prompt":"a"})";
  EXPECT_EQ(s.post("/v1/completions", ask).status, 401);
  EXPECT_EQ(s.post("/v1/completions", ask, {{"Authorization", "Bearer secrex"}}).status, 401);
  EXPECT_EQ(s.post("/v1/completions", ask, key).status, 200);
  EXPECT_EQ(s.client().Get("/v1/models")->status, 401);
  EXPECT_EQ(s.client().Get("/v1/models", key)->status, 200);
  EXPECT_EQ(s.client().Get("/health")->status, 200);
  EXPECT_EQ(s.post("/v1/nothing", ask, key).status, 404);
  EXPECT_EQ(s.post("/v1/completions", "{", key).json["error"]["message"], "the body is no JSON");
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt":"a","n":2})", key).json["error"]["param"], "n");
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt":[27]})", key).json["error"]["param"], "prompt");
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt":"a","max_tokens":64})", key).json["error"]["param"], "max_tokens");
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt":"a","model":"other"})", key).status, 404);
  EXPECT_EQ(s.client().Post("/v1/completions", key, ask, "text/plain")->status, 415);
  EXPECT_EQ(s.post("/v1/completions", ask, {{"Authorization", "Bearer secret"}, {"Content-Encoding", "gzip"}}).status,
            415);
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt":")" + std::string(2000, 'a') + "\"}", key).status, 413);
  EXPECT_EQ(s.post("/v1/completions", ask, key).status, 200) << "and lives";
}

TEST(Service, HoldsNoThreadForThoseWhoDoNotSend) {
  ServiceOptions options;
  options.max_clients = 1;
  options.request_time = std::chrono::milliseconds(300);
  const SmallService s(options);
  const auto begin = Clock::now();
  std::vector<std::thread> slow;
  for (const char* part : {"", "POST /v1/compl", "POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{",
                           "GET / HTTP/1.1\r\nA: b\r\n"})
    slow.emplace_back([&s, part] { raw(s.port, part); });
  for (std::thread& t : slow) t.join();
  EXPECT_GT(seconds_since(begin), 0.25);
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt":"a","max_tokens":1})").status, 200);
  for (const std::string& bytes : {std::string("\x16\x03\x01 no HTTP\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"),
                                   "GET /" + std::string(20000, 'x') + " HTTP/1.1\r\n\r\n", std::string(100, '\0')})
    EXPECT_EQ(raw(s.port, bytes).find("200 OK"), std::string::npos);
  EXPECT_EQ(s.client().Get("/health")->status, 200);
}

TEST(Service, MoreClientsThanMayBeAreToldToComeAgain) {
  SmallWriter writer(2, 60000);
  ServiceOptions options;
  options.max_clients = 2;
  SmallService s(options, &writer);
  const std::string endless = R"({"prompt":"a","max_tokens":50000,"stream":true})";
  std::atomic<int> listening = 0;
  std::atomic<bool> leave = false;
  std::vector<std::thread> clients;
  for (int i = 0; i < 2; ++i)
    clients.emplace_back([&] {
      auto c = s.client();
      bool first = true;
      httplib::Request request;
      request.method = "POST";
      request.path = "/v1/completions";
      request.headers = {{"Content-Type", "application/json"}};
      request.body = endless;
      request.content_receiver = [&](const char*, std::size_t, std::uint64_t, std::uint64_t) {
        if (first) ++listening;
        first = false;
        return !leave.load();
      };
      c.send(request);
    });
  while (listening < 2) std::this_thread::yield();
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt":"a"})").status, 429);
  s.service->drain();
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt":"a"})").status, 503);
  leave = true;
  for (std::thread& t : clients) t.join();
  // Who has gone is written for no longer.
  const auto begin = Clock::now();
  while ((s.service->num_clients() > 0 || writer.batcher.load().writing > 0) && seconds_since(begin) < 60)
    std::this_thread::yield();
  EXPECT_EQ(writer.batcher.load().writing, 0);
}

}  // namespace
}  // namespace fourmi
