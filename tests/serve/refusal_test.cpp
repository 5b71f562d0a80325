// Clients that send slowly, never read, send nonsense, or come in masses: each is refused or loses its connection in
// time, the others are answered meanwhile, and nothing is left behind.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "tests/serve/small_service.h"

namespace fourmi {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Writes as many tokens as are asked for, at once.
class AtOnce final : public Writer {
 public:
  std::shared_ptr<Writing> write(TextRequest request) override {
    auto writing = std::make_shared<Writing>(std::move(request));
    for (std::int64_t i = 0; i < writing->request().max_tokens; ++i) writing->push({.token = 1});
    writing->end(Finish::length);
    return writing;
  }
  std::int64_t max_tokens() const override { return 1 << 20; }
};

/// A service without a model.
struct Served {
  explicit Served(ServiceOptions options = {}) {
    options.port = 0;
    service = std::make_unique<Service>(options, letters, writer, chat);
    port = service->bind();
    thread = std::thread([this] { service->run(); });
    for (int i = 0; i < 1000 && status_of_a_request() != 200; ++i) std::this_thread::sleep_for(milliseconds(2));
  }
  ~Served() {
    service->stop();
    thread.join();
  }
  int status_of_a_request() const {
    httplib::Client c("127.0.0.1", port);
    c.set_read_timeout(20);
    const auto answer = c.Post("/v1/completions", R"({"prompt":"a","max_tokens":3})", "application/json");
    return answer ? answer->status : 0;
  }

  Letters letters{27};
  AtOnce writer;
  ChatPrompt chat;
  std::unique_ptr<Service> service;
  int port = 0;
  std::thread thread;
};

/// A client with nothing but a socket.
class RawClient {
 public:
  explicit RawClient(int port, int receive_bytes = 0) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_bytes > 0) ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { ::close(socket_); }

  /// False once the server has closed its end.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  /// All that the server says until it closes.
  std::string read() {
    std::string all;
    char buffer[4096];
    for (ssize_t n = 0; (n = ::recv(socket_, buffer, sizeof(buffer), 0)) > 0;)
      all.append(buffer, static_cast<std::size_t>(n));
    return all;
  }
  bool is_closed() {
    char next = 0;
    return ::recv(socket_, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
  }

 private:
  int socket_;
};

int status_of(const std::string& answer) {
  return answer.starts_with("HTTP/1.1 ") ? std::stoi(answer.substr(9, 3)) : 0;
}

std::ptrdiff_t num_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

/// The server closes its end a moment after the client has gone.
void expect_descriptors(std::ptrdiff_t before) {
  for (const auto begin = Clock::now(); num_descriptors() > before && seconds_since(begin) < 10;)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_LE(num_descriptors(), before);
}

const std::string head = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";

std::string post(const std::string& body, const std::string& more = "") {
  return head + more + fmt::format("Content-Length: {}\r\n\r\n", body.size()) + body;
}

TEST(Refusal, WhoSendsAByteNowAndThenLosesTheConnection) {
  ServiceOptions options;
  options.request_time = milliseconds(500);
  const Served s(options);
  const auto before = num_descriptors();
  std::atomic<int> cut = 0;
  std::vector<std::thread> slow;
  const auto begin = Clock::now();
  for (const std::string& all : {post(std::string(5000, 'a')), "GET /health HTTP/1.1\r\nA: " + std::string(5000, 'a')})
    for (int i = 0; i < 4; ++i)
      slow.emplace_back([&, all] {  // each byte in time, if a byte's time were what counts
        RawClient client(s.port);
        for (const char c : all) {
          if (!client.send({&c, 1}) || client.is_closed()) break;
          std::this_thread::sleep_for(milliseconds(20));
        }
        EXPECT_NE(status_of(client.read()), 200);
        ++cut;
      });
  for (int i = 0; i < 5; ++i) EXPECT_EQ(s.status_of_a_request(), 200);
  EXPECT_EQ(cut, 0) << "others were answered before the slow ones had gone";
  for (std::thread& t : slow) t.join();
  EXPECT_GT(seconds_since(begin), 0.45);
  EXPECT_LT(seconds_since(begin), 30) << "5000 bytes would have taken 100 s";
  EXPECT_EQ(s.status_of_a_request(), 200);
  expect_descriptors(before);
}

TEST(Refusal, WhoReadsNothingLosesTheConnection) {
  ServiceOptions options;
  options.write_time = milliseconds(300);
  const Served s(options);
  const auto before = num_descriptors();
  {
    RawClient client(s.port, 4096);
    client.send(post(R"({"prompt":"a","max_tokens":120000,"stream":true})"));  // 20 MB of events
    for (const auto begin = Clock::now(); s.service->num_clients() == 0 && seconds_since(begin) < 20;)
      std::this_thread::yield();
    EXPECT_EQ(s.service->num_clients(), 1);
    EXPECT_EQ(s.status_of_a_request(), 200) << "meanwhile";
    for (const auto begin = Clock::now(); s.service->num_clients() > 0 && seconds_since(begin) < 20;)
      std::this_thread::sleep_for(milliseconds(5));
    EXPECT_EQ(s.service->num_clients(), 0);
    EXPECT_FALSE(client.read().ends_with("0\r\n\r\n")) << "it was cut, not ended";
  }
  EXPECT_EQ(s.status_of_a_request(), 200);
  expect_descriptors(before);
}

TEST(Refusal, NonsenseIsAnsweredOrTheConnectionEnds) {
  ServiceOptions options;
  options.max_body = 20000;
  options.request_time = milliseconds(300);
  const Served s(options);
  const auto before = num_descriptors();
  const std::string ask = R"({"prompt":"a","max_tokens":1})", chunks = head + "Transfer-Encoding: chunked\r\n\r\n";
  const auto chunk = [](const std::string& body) { return fmt::format("{:x}\r\n{}\r\n", body.size(), body); };
  struct Case {
    const char* what;
    std::string sent;
    int status;  ///< 0: any refusal, or the end of the connection without a word
  };
  const Case cases[] = {
      {"a request", post(ask), 200},
      {"bad JSON", post("{\"prompt\""), 400},
      {"no UTF-8", post("{\"prompt\":\"\xff\xfe\"}"), 400},
      {"a field without a name", head + ": a\r\nContent-Length: 2\r\n\r\n{}", 400},
      {"a field without a colon", head + "nonsense\r\nContent-Length: 2\r\n\r\n{}", 400},
      {"a field of 9000 bytes", post(ask, "A: " + std::string(9000, 'a') + "\r\n"), 400},
      {"100000 bytes of fields",
       post(ask,
            [] {
              std::string all;
              for (int i = 0; i < 5000; ++i) all += fmt::format("A{}: bbbbbbbbbbbb\r\n", i);
              return all;
            }()),
       0},
      {"a body longer than was said", head + "Content-Length: 10\r\n\r\n" + ask, 400},
      {"a body shorter than was said", head + "Content-Length: 100\r\n\r\n" + ask, 0},
      {"a length below 0", head + "Content-Length: -1\r\n\r\n" + ask, 0},
      {"a length that is no number", head + "Content-Length: abc\r\n\r\n" + ask, 0},
      {"a length beyond 64 bits", head + "Content-Length: 99999999999999999999999\r\n\r\n" + ask, 413},
      {"a body that is too long", post(std::string(30000, ' ') + ask), 413},
      {"one that is said to be", head + "Content-Length: 1000000000000\r\n\r\n", 413},
      {"chunks", chunks + chunk(ask) + "0\r\n\r\n", 200},
      {"chunks beyond the limit", chunks + chunk(std::string(30000, ' ') + ask) + "0\r\n\r\n", 413},
      {"chunks far beyond it", chunks + chunk(std::string(1 << 20, ' ') + ask) + "0\r\n\r\n", 0},
      {"a chunk beyond memory", chunks + "fffffffffffffff\r\n" + ask, 0},
      {"a chunk of no number", chunks + "zz\r\n" + ask + "\r\n0\r\n\r\n", 0},
      {"brackets without end", post("{\"prompt\":" + std::string(19000, '[') + "}"), 400},
      {"a part of the answer", post(ask, "Range: bytes=2-3\r\n"), 200},
      {"a range without end", post(ask, "Range: bytes=" + std::string(8000, '1') + "-\r\n"), 0},
      {"ranges without end",
       post(
           ask, "Range: bytes=0-1" +
                    [] {
                      std::string all;
                      for (int i = 0; i < 1900; ++i) all += ",0-1";
                      return all;
                    }() +
                    "\r\n"),
       200},
      {"another method", "BREW /v1/completions HTTP/1.1\r\n\r\n", 400},
      {"no HTTP", std::string("\x16\x03\x01\x02\x00\x01\x00\xfc\r\n\r\n", 12), 400},
  };
  for (const Case& c : cases) {
    RawClient client(s.port);
    client.send(c.sent);
    const int status = status_of(client.read());
    if (c.status != 0)
      EXPECT_EQ(status, c.status) << c.what;
    else
      EXPECT_TRUE(status == 0 || (status >= 400 && status < 500)) << c.what << ": " << status;
  }
  EXPECT_EQ(s.status_of_a_request(), 200);
  EXPECT_EQ(s.service->num_clients(), 0);
  expect_descriptors(before);
}

TEST(Refusal, MoreConnectionsThanMayWaitAreClosedAtOnce) {
  ServiceOptions options;
  options.max_clients = 4;  // and 8 threads that refuse, and 4 connections that wait
  const Served s(options);
  const auto before = num_descriptors();
  {
    const auto begin = Clock::now();
    std::vector<std::unique_ptr<RawClient>> idle;
    for (int i = 0; i < 40; ++i) idle.push_back(std::make_unique<RawClient>(s.port));
    for (std::size_t i = 16; i < idle.size(); ++i) EXPECT_EQ(status_of(idle[i]->read()), 503);
    for (std::size_t i = 0; i < 16; ++i) EXPECT_FALSE(idle[i]->is_closed()) << "has a thread or waits for one";
    EXPECT_LT(seconds_since(begin), 15) << "before the first ones' time was over";
  }
  for (const auto begin = Clock::now(); s.status_of_a_request() != 200 && seconds_since(begin) < 10;)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(s.status_of_a_request(), 200) << "when they have gone";
  expect_descriptors(before);
}

}  // namespace
}  // namespace fourmi
