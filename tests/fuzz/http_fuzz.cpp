// What comes by a connection to a server, from its first byte: the library's reading of HTTP, then our handlers, with a
// writer of texts that has no model. Input: the bytes that a client sends.
#include <httplib.h>

#include <charconv>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "framework/serve/service.h"
#include "framework/tokenizer/bytes.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace fourmi;

constexpr std::size_t most_body = 8192;
constexpr std::int64_t most_tokens = 64;

/// A client that has sent all it will ever send, and takes what it is told.
class Memory final : public httplib::Stream {
 public:
  explicit Memory(std::string_view sent, std::size_t piece) : sent_(sent), piece_(piece) {}
  bool is_readable() const override { return !sent_.empty(); }
  bool is_writable() const override { return true; }
  ssize_t read(char* to, std::size_t size) override {
    const std::size_t n = std::min({size, sent_.size(), piece_});
    std::memcpy(to, sent_.data(), n);
    sent_.remove_prefix(n);
    return static_cast<ssize_t>(n);
  }
  ssize_t write(const char* from, std::size_t size) override {
    told.append(from, size);
    return static_cast<ssize_t>(size);
  }
  using httplib::Stream::write;
  void get_remote_ip_and_port(std::string& ip, int& port) const override { ip = "127.0.0.1", port = 1; }
  void get_local_ip_and_port(std::string& ip, int& port) const override { ip = "127.0.0.1", port = 2; }
  socket_t socket() const override { return INVALID_SOCKET; }

  std::string told;

 private:
  std::string_view sent_;
  std::size_t piece_;
};

/// Writes any bytes at once; a prompt that ends with "full" finds no place, one that ends with "fails" no end.
class AtOnce final : public Writer {
 public:
  std::int64_t max_tokens() const override { return most_tokens; }
  std::shared_ptr<Writing> write(TextRequest request) override {
    fuzz::require(!request.prompt.empty() && request.max_tokens >= 0 &&
                      std::ssize(request.prompt) + request.max_tokens <= most_tokens,
                  "more tokens than there is room for");
    for (const std::int32_t t : request.prompt)
      fuzz::require(t >= 0 && t < tokenizer_.vocab_size(), "a token of no vocabulary");
    std::string end;
    for (std::size_t i = request.prompt.size() - std::min<std::size_t>(5, request.prompt.size());
         i < request.prompt.size(); ++i)
      end.push_back(static_cast<char>(request.prompt[i]));
    if (end.ends_with("full")) return nullptr;
    auto writing = std::make_shared<Writing>(std::move(request));
    const TextRequest& r = writing->request();
    if (r.score_prompt)
      for (const std::int32_t t : r.prompt) writing->push(token(r, t));
    for (std::int64_t i = 0; i < r.max_tokens; ++i)
      writing->push(token(r, static_cast<std::int32_t>((r.sampling.seed + 37 * static_cast<std::uint64_t>(i)) % 256)));
    writing->end(end == "fails" ? Finish::failed : Finish::length);
    return writing;
  }

 private:
  WrittenToken token(const TextRequest& request, std::int32_t id) const {
    WrittenToken t{.token = id};
    if (request.num_likeliest >= 0) t.logprob = -1.5;
    for (int i = 0; i < request.num_likeliest; ++i) t.likeliest.push_back({(id + i) % 256, -1.5 - i});
    return t;
  }

  ByteTokenizer tokenizer_;
};

struct Server {
  ByteTokenizer tokenizer;
  AtOnce writer;
  ChatPrompt chat = [](const ChatRequest& c) { return c.messages.substr(0, 20); };
  ServiceOptions options = [] {
    ServiceOptions o;
    o.port = 0;
    o.model = "small";
    o.max_body = most_body;
    return o;
  }();
  Service service{options, tokenizer, writer, chat};
  Server() { service.bind(); }  // the library ends the streams of a server that listens nowhere
};

bool is_known(int status) {
  for (const int s : {200, 400, 404, 413, 414, 415, 416, 417, 429, 500})
    if (s == status) return true;
  return false;
}

/// What a client makes of an answer.
void check(const std::string& told) {
  if (told.empty()) return;  // the request was not whole
  std::string_view answer = told;
  if (answer.starts_with("HTTP/1.1 100 ")) answer.remove_prefix(answer.find("\r\n\r\n") + 4);
  if (answer.empty()) return;
  fuzz::require(answer.starts_with("HTTP/1.1 ") && answer.size() > 12, "an answer that is no HTTP");
  int status = 0;
  std::from_chars(answer.data() + 9, answer.data() + 12, status);
  if (!is_known(status)) std::fprintf(stderr, "%s\n", told.c_str());
  fuzz::require(is_known(status), "another status");
  const std::size_t end = answer.find("\r\n\r\n");
  fuzz::require(end != std::string::npos, "a head without an end");
  const std::string_view head = answer.substr(0, end), body = answer.substr(end + 4);
  const std::size_t at = head.find("Content-Length: ");
  if (at == std::string_view::npos) {
    fuzz::require(head.find("chunked") != std::string_view::npos && body.ends_with("0\r\n\r\n"),
                  "a stream without end");
    return;
  }
  std::size_t length = 0;
  std::from_chars(head.data() + at + 16, head.data() + head.size(), length);
  if (body.empty()) return;  // of HEAD
  fuzz::require(length == body.size(), "another length than was said");
  fuzz::require(head.find("Content-Encoding: ") == std::string_view::npos, "an answer that is encoded");
  const nlohmann::json json = nlohmann::json::parse(body, nullptr, false);
  fuzz::require(json.is_object(), "an answer that is no JSON");
  fuzz::require(json.contains("error") == (status != 200), "an error without its status");
  // Of 500 only what the writer was made to fail at.
  if (status == 500)
    fuzz::require(json["error"].value("message", "").find("writing failed") == 0, "an error of the server's own");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Server server;
  const std::string_view sent(reinterpret_cast<const char*>(data), size);
  std::string told;
  for (const std::size_t piece : {std::size_t{4096}, std::size_t{7}}) {
    Memory connection(sent, piece);
    server.service.answer(connection);
    check(connection.told);
    fuzz::require(server.service.num_clients() == 0, "a client that is still counted");
    fuzz::require(told.empty() || told.substr(0, 12) == connection.told.substr(0, 12), "pieces that change the answer");
    told = connection.told;
  }
  return 0;
}
