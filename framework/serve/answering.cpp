#include "framework/serve/answering.h"

namespace fourmi {

Answering::Answering(AnswerHead head, ApiRequest request, std::vector<std::shared_ptr<Writing>> writings,
                     const Tokenizer& tokenizer)
    : head_(std::move(head)), request_(std::move(request)), writings_(std::move(writings)), tokenizer_(tokenizer) {
  for (const auto& w : writings_) {
    const TextRequest& text = w->request();
    choices_.emplace_back(tokenizer_, request_.stops,
                          !request_.chat && !request_.echo && text.prompt.size() > text.num_hidden);
  }
}

Answering::~Answering() {
  for (const auto& w : writings_) w->cancel();
}

/// Throws where there is no reason that a client could be told.
const char* Answering::reason(std::size_t i) const {
  if (choices_[i].stopped()) return "stop";
  switch (writings_[i]->finish()) {
    case Finish::stop:
      return "stop";
    case Finish::length:
      return "length";
    case Finish::cancelled:
      throw ApiError(503, "the server ends");
    default:
      throw ApiError(500, "writing failed; the server's own output says why");
  }
}

const char* Answering::write_all(std::size_t i) {
  Choice& choice = choices_[i];
  Writing& writing = *writings_[i];
  std::size_t echoed = 0;
  const bool scored = writing.request().score_prompt;
  const auto& prompt = writing.request().prompt;
  const std::size_t hidden = writing.request().num_hidden;
  if (request_.echo && !scored)
    for (std::size_t t = hidden; t < prompt.size(); ++t) choice.echo({.token = prompt[t]});
  WrittenToken token;
  while (!choice.stopped() && writing.next(token)) {
    if (scored && echoed < prompt.size()) {
      if (++echoed > hidden) choice.echo(token);
    } else {
      choice.push(token);
    }
  }
  choice.finish();
  const char* why = reason(i);
  writing.cancel();
  return why;
}

std::string Answering::whole() {
  std::vector<AnswerChoice> answers;
  Usage usage;
  for (std::size_t i = 0; i < writings_.size(); ++i) {
    const char* why = write_all(i);
    answers.push_back({&choices_[i], why, request_.num_likeliest >= 0});
    usage.prompt_tokens += std::ssize(writings_[i]->request().prompt);
    usage.completion_tokens += choices_[i].num_written();
  }
  return whole_answer(head_, tokenizer_, answers, usage);
}

/// What one more token of the text gives.
void Answering::next_pieces() {
  Choice& choice = choices_[0];
  Writing& writing = *writings_[0];
  if (!begun_) {
    begun_ = true;
    if (head_.chat) return pieces_.push_back(stream_begin(head_));
  }
  WrittenToken token;
  if (!choice.stopped() && writing.next(token)) {
    const std::string text = choice.push(token);
    const bool told = request_.num_likeliest >= 0;
    if (!text.empty() || told) pieces_.push_back(stream_piece(head_, tokenizer_, text, told ? &token : nullptr));
    return;
  }
  const std::string rest = choice.finish();
  if (!rest.empty()) pieces_.push_back(stream_piece(head_, tokenizer_, rest, nullptr));
  try {
    pieces_.push_back(stream_end(head_, reason(0)));
    if (request_.stream_usage)
      pieces_.push_back(stream_usage(head_, {std::ssize(writing.request().prompt), choice.num_written()}));
    pieces_.push_back("[DONE]");
  } catch (const ApiError& e) {  // its status went out with the first piece
    pieces_.push_back(error_answer(e.status, e.what(), e.param));
  }
  writing.cancel();
  ended_ = true;
}

std::string Answering::next_event() {
  while (pieces_.empty() && !ended_) next_pieces();
  if (pieces_.empty()) return "";
  std::string event = "data: " + pieces_.front() + "\n\n";
  pieces_.pop_front();
  return event;
}

}  // namespace fourmi
