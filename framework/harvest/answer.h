// A chat completion as the server sent it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace fourmi::harvest {

struct Answer {
  std::string content, reasoning, finish_reason, model, id;
  std::int64_t input_tokens = 0, output_tokens = 0;
  bool has_usage = false;
  /// SHA-256 of content and reasoning: two answers with the same one are the same.
  std::string digest() const;
};

/// nullopt: no chat completion with a text.
std::optional<Answer> parse_answer(const std::string& body);

/// The server's own words for an error, at most 300 bytes without line breaks; empty: none.
struct Complaint {
  std::string message, param;
};
Complaint parse_complaint(const std::string& body);

}  // namespace fourmi::harvest
