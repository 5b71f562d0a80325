#include "framework/serve/api_answer.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace fourmi {

namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const Json& j) {
  return j.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json number(double x) {
  return std::isfinite(x) ? Json(x) : Json(nullptr);
}

Json head(const AnswerHead& h, bool piece) {
  Json j;
  j["id"] = h.id;
  j["object"] = h.chat ? (piece ? "chat.completion.chunk" : "chat.completion") : "text_completion";
  j["created"] = h.created;
  j["model"] = h.model;
  return j;
}

Json usage_json(const Usage& u) {
  return {{"prompt_tokens", u.prompt_tokens},
          {"completion_tokens", u.completion_tokens},
          {"total_tokens", u.prompt_tokens + u.completion_tokens}};
}

Json bytes_json(const Tokenizer& tokenizer, std::int32_t token) {
  Json bytes = Json::array();
  for (char c : tokenizer.decode_next(token, false)) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

Json chat_token(const Tokenizer& tokenizer, const WrittenToken& t) {
  auto one = [&](std::int32_t id, double logprob) -> Json {
    return {{"token", shown(tokenizer, id)}, {"logprob", number(logprob)}, {"bytes", bytes_json(tokenizer, id)}};
  };
  Json j = one(t.token, t.logprob);
  j["top_logprobs"] = Json::array();
  for (const LikelyToken& l : t.likeliest) j["top_logprobs"].push_back(one(l.token, l.logprob));
  return j;
}

void add_token(Json& lists, const Tokenizer& tokenizer, const WrittenToken& t, std::int64_t offset) {
  lists["tokens"].push_back(shown(tokenizer, t.token));
  lists["token_logprobs"].push_back(number(t.logprob));
  Json likeliest = nullptr;  // of the first token of a prompt nothing is known
  if (std::isfinite(t.logprob)) {
    likeliest = Json::object();
    for (const LikelyToken& l : t.likeliest) {
      const std::string name = shown(tokenizer, l.token);
      if (!likeliest.contains(name)) likeliest[name] = number(l.logprob);  // of equal texts the likelier
    }
  }
  lists["top_logprobs"].push_back(std::move(likeliest));
  lists["text_offset"].push_back(offset);
}

Json empty_lists() {
  return {{"tokens", Json::array()},
          {"token_logprobs", Json::array()},
          {"top_logprobs", Json::array()},
          {"text_offset", Json::array()}};
}

Json logprobs_json(const AnswerHead& h, const Tokenizer& tokenizer, const AnswerChoice& c) {
  if (!c.logprobs) return nullptr;
  if (h.chat) {
    Json content = Json::array();
    for (const Choice::Placed& p : c.choice->tokens()) content.push_back(chat_token(tokenizer, p.token));
    return {{"content", content}};
  }
  Json lists = empty_lists();
  for (const Choice::Placed& p : c.choice->tokens()) add_token(lists, tokenizer, p.token, p.offset);
  return lists;
}

Json piece_json(const AnswerHead& h, Json delta_or_text, Json logprobs, Json finish_reason) {
  Json j = head(h, true), choice;
  choice["index"] = 0;
  choice[h.chat ? "delta" : "text"] = std::move(delta_or_text);
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = std::move(finish_reason);
  j["choices"] = Json::array({choice});
  return j;
}

}  // namespace

std::string whole_answer(const AnswerHead& h, const Tokenizer& tokenizer, const std::vector<AnswerChoice>& choices,
                         const Usage& usage) {
  Json j = head(h, false);
  j["choices"] = Json::array();
  for (const AnswerChoice& c : choices) {
    Json one;
    one["index"] = j["choices"].size();
    if (h.chat)
      one["message"] = {{"role", "assistant"}, {"content", c.choice->text()}};
    else
      one["text"] = c.choice->text();
    one["logprobs"] = logprobs_json(h, tokenizer, c);
    one["finish_reason"] = c.finish_reason;
    j["choices"].push_back(std::move(one));
  }
  j["usage"] = usage_json(usage);
  return text_of(j);
}

std::string stream_begin(const AnswerHead& h) {
  return text_of(piece_json(h, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr));
}

std::string stream_piece(const AnswerHead& h, const Tokenizer& tokenizer, const std::string& text,
                         const WrittenToken* token) {
  Json logprobs = nullptr;
  if (token && h.chat) logprobs = {{"content", Json::array({chat_token(tokenizer, *token)})}};
  if (token && !h.chat) {
    logprobs = empty_lists();
    add_token(logprobs, tokenizer, *token, 0);
    logprobs.erase("text_offset");
  }
  return text_of(piece_json(h, h.chat ? Json{{"content", text}} : Json(text), std::move(logprobs), nullptr));
}

std::string stream_end(const AnswerHead& h, const std::string& finish_reason) {
  return text_of(piece_json(h, h.chat ? Json::object() : Json(""), nullptr, finish_reason));
}

std::string stream_usage(const AnswerHead& h, const Usage& usage) {
  Json j = head(h, true);
  j["choices"] = Json::array();
  j["usage"] = usage_json(usage);
  return text_of(j);
}

std::string model_list(const std::string& model, std::int64_t created, std::int64_t max_tokens) {
  const Json one{
      {"id", model}, {"object", "model"}, {"created", created}, {"owned_by", "fourmi"}, {"max_model_len", max_tokens}};
  return text_of({{"object", "list"}, {"data", Json::array({one})}});
}

std::string error_answer(int status, const std::string& message, const std::string& param) {
  const char* type = status == 401   ? "authentication_error"
                     : status == 429 ? "rate_limit_error"
                     : status >= 500 ? "server_error"
                                     : "invalid_request_error";
  const Json error{
      {"message", message}, {"type", type}, {"param", param.empty() ? Json(nullptr) : Json(param)}, {"code", nullptr}};
  return text_of({{"error", error}});
}

}  // namespace fourmi
