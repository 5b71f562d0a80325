// A request that is being answered: its texts, and the piece of it that a stream is at.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "framework/serve/api_answer.h"
#include "framework/serve/api_request.h"
#include "framework/serve/writing.h"

namespace fourmi {

class Answering {
 public:
  /// `writings`: one a prompt of the request. `tokenizer` outlives this. Cancels what is not written at its end.
  Answering(AnswerHead head, ApiRequest request, std::vector<std::shared_ptr<Writing>> writings,
            const Tokenizer& tokenizer);
  Answering(const Answering&) = delete;
  Answering& operator=(const Answering&) = delete;
  ~Answering();

  const ApiRequest& request() const { return request_; }
  /// Waits for all of it. Throws ApiError(500 or 503) where writing ended without an answer.
  std::string whole();
  /// Waits for the next piece of the stream: an event of server-sent events. Empty: that was all.
  std::string next_event();

 private:
  const char* write_all(std::size_t i);
  const char* reason(std::size_t i) const;
  void next_pieces();

  AnswerHead head_;
  ApiRequest request_;
  std::vector<std::shared_ptr<Writing>> writings_;
  const Tokenizer& tokenizer_;
  std::deque<Choice> choices_;
  std::deque<std::string> pieces_;
  bool begun_ = false, ended_ = false;
};

}  // namespace fourmi
