// The OpenAI-compatible interface over HTTP: /v1/models, /v1/completions, /v1/chat/completions, /health.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "framework/chat/chat_prompt.h"
#include "framework/serve/answering.h"
#include "framework/serve/writing.h"
#include "framework/tokenizer/tokenizer.h"

namespace httplib {
class Stream;
}

namespace fourmi {

struct ServiceOptions {
  std::string host = "127.0.0.1";
  int port = 8000;                                 ///< 0: one that is free
  std::string api_key;                             ///< empty: none is asked for
  std::string model;                               ///< the name that answers give
  int max_clients = 64;                            ///< requests at once; one more is answered with 429
  std::size_t max_body = 4 << 20;                  ///< bytes
  std::chrono::milliseconds request_time{20'000};  ///< in which a request must have come
  std::chrono::milliseconds write_time{20'000};    ///< in which a client must take something of its answer
  std::optional<std::int32_t> begin_of_text{};     ///< stands before a prompt that is a text
};

/// The prompt of a conversation. Throws ApiError(400), or Error: 400 as well.
using ChatPrompt = std::function<std::string(const ChatRequest&)>;

class Service {
 public:
  /// `chat` may be empty: the model has no template for conversations. All outlive this.
  Service(const ServiceOptions& options, const Tokenizer& tokenizer, Writer& writer, const ChatPrompt& chat);
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service();

  /// Throws Error(environment) where the address cannot be had. The port.
  int bind();
  /// Answers requests until stop().
  void run();
  /// From another thread: new requests are answered with 503.
  void drain() { draining_ = true; }
  void stop();
  /// The one request that comes by `connection`, answered there. False where it could not be.
  bool answer(httplib::Stream& connection);
  /// Requests that are being answered.
  int num_clients() const { return num_clients_; }

 private:
  class Http;

  std::shared_ptr<Answering> begin(const std::string& body, bool chat);
  std::string prompt_of_chat(const ApiRequest& request) const;
  TextRequest text_request(const ApiRequest& request, const Prompt& prompt) const;

  const ServiceOptions options_;
  const Tokenizer& tokenizer_;
  Writer& writer_;
  const ChatPrompt& chat_;
  std::int64_t created_;
  std::atomic<std::uint64_t> num_requests_ = 0;
  std::atomic<int> num_clients_ = 0;
  std::atomic<bool> draining_ = false;
  std::unique_ptr<Http> http_;
};

}  // namespace fourmi
