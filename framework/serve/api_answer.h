// Answers of the OpenAI-compatible interface, as JSON texts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/serve/choice.h"

namespace fourmi {

/// What all pieces of an answer say.
struct AnswerHead {
  std::string id, model;
  std::int64_t created = 0;  ///< seconds since 1970
  bool chat = false;
};
struct Usage {
  std::int64_t prompt_tokens = 0, completion_tokens = 0;
};
struct AnswerChoice {
  const Choice* choice = nullptr;
  std::string finish_reason;
  bool logprobs = false;
};

std::string whole_answer(const AnswerHead&, const Tokenizer&, const std::vector<AnswerChoice>&, const Usage&);

/// Pieces of a streamed answer. `token` may be null: a piece that has only text.
std::string stream_begin(const AnswerHead&);  ///< of chat
std::string stream_piece(const AnswerHead&, const Tokenizer&, const std::string& text, const WrittenToken* token);
std::string stream_end(const AnswerHead&, const std::string& finish_reason);
std::string stream_usage(const AnswerHead&, const Usage&);

std::string model_list(const std::string& model, std::int64_t created, std::int64_t max_tokens);
/// `status`: of HTTP. `param`: the field at fault; empty: none.
std::string error_answer(int status, const std::string& message, const std::string& param);

}  // namespace fourmi
