// What a client of the OpenAI-compatible interface asks for. A field that would change the answer and is not supported
// is refused by name; so is one that nobody knows.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "framework/serve/writing.h"

namespace fourmi {

/// An answer with a status of HTTP that is no success.
struct ApiError : std::runtime_error {
  ApiError(int status_, const std::string& message, std::string param_ = "")
      : std::runtime_error(message), status(status_), param(std::move(param_)) {}
  int status;
  std::string param;  ///< the field at fault; empty: none
};

struct Prompt {
  std::string text{};
  std::vector<std::int32_t> tokens{};  ///< given instead of a text
  bool is_text = true;
};

struct ApiRequest {
  bool chat = false;
  std::string model{};            ///< empty: whichever there is
  std::vector<Prompt> prompts{};  ///< of completions; one answer each
  std::string messages{};         ///< of chat: the JSON array, as it came
  std::string tools{};            ///< the same; empty: none
  std::string variables{};        ///< of chat: chat_template_kwargs, the JSON object; empty: none
  std::int64_t max_tokens = 16;
  bool has_max_tokens = false;
  Sampling sampling{};
  bool has_seed = false;
  int num_likeliest = -1;
  bool echo = false;
  bool stream = false;
  bool stream_usage = false;  ///< the last piece of a stream says how many tokens there were
  std::vector<std::string> stops{};
};

/// Of the body of a request to /v1/completions, or /v1/chat/completions. Throws ApiError(400).
ApiRequest parse_api_request(std::string_view body, bool chat);

}  // namespace fourmi
