#include "framework/harvest/answer.h"

#include <nlohmann/json.hpp>

#include "framework/digest/sha256.h"

namespace fourmi::harvest {
namespace {

using nlohmann::json;

/// The text of a key; empty where it is absent or no text.
std::string text(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::int64_t count(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer() && *found >= 0 ? found->get<std::int64_t>() : -1;
}

}  // namespace

std::string Answer::digest() const {
  return sha256(sha256(reasoning) + content);
}

std::optional<Answer> parse_answer(const std::string& body) {
  const json whole = json::parse(body, nullptr, false);
  if (!whole.is_object() || !whole.contains("choices")) return std::nullopt;
  const json& choices = whole["choices"];
  if (!choices.is_array() || choices.empty() || !choices[0].is_object()) return std::nullopt;
  const auto message = choices[0].find("message");
  if (message == choices[0].end() || !message->is_object()) return std::nullopt;
  Answer answer;
  answer.content = text(*message, "content");
  answer.reasoning = text(*message, "reasoning_content");
  answer.finish_reason = text(choices[0], "finish_reason");
  answer.model = text(whole, "model");
  answer.id = text(whole, "id");
  if (answer.reasoning.empty()) answer.reasoning = text(*message, "reasoning");  // as some servers call it
  if (!message->contains("content")) return std::nullopt;
  const auto usage = whole.find("usage");
  if (usage != whole.end() && usage->is_object()) {
    const std::int64_t input = count(*usage, "prompt_tokens"), output = count(*usage, "completion_tokens");
    answer.has_usage = input >= 0 && output >= 0 && input < (1 << 30) && output < (1 << 30);
    if (answer.has_usage) answer.input_tokens = input, answer.output_tokens = output;
  }
  return answer;
}

Complaint parse_complaint(const std::string& body) {
  const json whole = json::parse(body, nullptr, false);
  Complaint complaint;
  if (whole.is_object() && whole.contains("error") && whole["error"].is_object()) {
    complaint = {text(whole["error"], "message"), text(whole["error"], "param")};
  } else if (whole.is_object()) {
    complaint.message = text(whole, "message");
  }
  for (std::string* words : {&complaint.message, &complaint.param}) {
    if (words->size() > 300) words->resize(300);
    for (char& c : *words)
      if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return complaint;
}

}  // namespace fourmi::harvest
