// How a model that came from Hugging Face's format wants its conversations written: its chat template, and the texts of
// its special tokens, which templates name. They lie in the model's folder: chat_template.jinja, or else
// `chat_template` of tokenizer_config.json; special tokens in tokenizer_config.json, or else special_tokens_map.json.
#pragma once

#include <ctime>
#include <filesystem>
#include <optional>
#include <string>

#include "framework/chat/template.h"

namespace fourmi {

class ModelChat {
 public:
  ModelChat(ChatTemplate chat, jinja::Dict special_tokens);

  /// `messages`: a list of mappings (role, content ...); `tools`: the same, or None. Throws as ChatTemplate does.
  jinja::Rendered render(const jinja::Value& messages, const jinja::Value& tools, bool add_generation_prompt,
                         std::time_t now) const;
  const ChatTemplate& chat() const { return chat_; }
  const jinja::Dict& special_tokens() const { return special_tokens_; }  ///< "bos_token" ... where there are such

 private:
  ChatTemplate chat_;
  jinja::Dict special_tokens_;
};

/// The special tokens that a folder's files name; none where there are no such files. Throws Error(input) for a file
/// that cannot be read as what it is.
jinja::Dict read_special_tokens(const std::filesystem::path& folder);

/// The template of a model's folder; nothing if it has none. Throws Error(input) naming the file (and the line of a
/// template that is not built).
std::optional<ModelChat> read_model_chat(const std::filesystem::path& folder);
/// The template of a file of its own, with the special tokens of `folder`.
ModelChat read_chat_template(const std::filesystem::path& file, const std::filesystem::path& folder);

}  // namespace fourmi
