// One request to an OpenAI-compatible endpoint, and what became of it.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace fourmi::harvest {

struct EndpointOptions {
  std::string url;      ///< https://HOST/v1
  std::string key;      ///< empty: none
  std::string ca_file;  ///< certificates that the endpoint's must come from; empty: the system's
  std::chrono::milliseconds timeout{600'000};
};

struct Reply {
  enum class Kind {
    answered,  ///< status 200
    refused,   ///< another status
    unsent,    ///< no connection was made, so nothing was asked
    lost,      ///< sent, and no whole answer came
  };
  Kind kind = Kind::lost;
  int status = 0;
  std::string body, request_id;
  std::string problem;  ///< in words, unless answered
  std::optional<std::chrono::seconds> retry_after;
};

/// For one thread. Keeps its connection. Redirections are not followed: they would carry the key elsewhere.
class Endpoint {
 public:
  explicit Endpoint(const EndpointOptions& options);
  ~Endpoint();
  /// POST URL/chat/completions. The key stands nowhere in what comes back, whatever the server says.
  Reply ask(const std::string& body);

 private:
  struct Client;
  std::unique_ptr<Client> client_;
};

/// "HOST" or "HOST:PORT" of an URL.
std::string host_of(const std::string& url);

/// The key on the first line of a file; `~/` is the user's home. Throws Error(input) naming the file, never its bytes.
std::string read_key(const std::string& file);

/// Throws Error(input) for a file without a certificate (PEM) in it, where one is named.
void check_certificates(const std::string& file);

/// Retry-After: seconds, or a date; nullopt: neither.
std::optional<std::chrono::seconds> parse_retry_after(const std::string& text);

}  // namespace fourmi::harvest
