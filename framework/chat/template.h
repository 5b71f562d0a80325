// A chat template: how a model's conversations are written as one text. What apply_chat_template of transformers
// renders, byte for byte (goldens in tests/chat, made by a script beside them).
#pragma once

#include <ctime>
#include <string>

#include "framework/chat/jinja/render.h"
#include "framework/chat/jinja/syntax.h"

namespace fourmi {

class ChatTemplate {
 public:
  /// Throws Error(input) at `place:line` for what no template that is built may have.
  ChatTemplate(const std::string& text, std::string place);

  /// `variables`: messages, tools, add_generation_prompt, bos_token ...; those of apply_chat_template that are absent
  /// are as it gives them (tools, documents: none; add_generation_prompt: false). `now`: for strftime_now.
  jinja::Rendered render(const jinja::Dict& variables, std::time_t now) const;
  /// Whether it says itself what the assistant writes ({% generation %}).
  bool marks_generation() const { return marks_generation_; }
  const std::string& place() const { return place_; }
  const std::string& text() const { return text_; }

 private:
  std::string text_, place_;
  jinja::Block block_;
  bool marks_generation_ = false;
};

}  // namespace fourmi
