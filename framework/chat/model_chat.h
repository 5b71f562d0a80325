// How a model that came from Hugging Face's format wants its conversations written: its chat template, and the texts of
// its special tokens, which templates name. They lie in the model's folder: chat_template.jinja, or else
// `chat_template` of tokenizer_config.json; special tokens in tokenizer_config.json, or else special_tokens_map.json.
// And which tokens end its texts.
#pragma once

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "framework/chat/template.h"
#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

class ModelChat {
 public:
  ModelChat(ChatTemplate chat, jinja::Dict special_tokens);

  /// `messages`: a list of mappings (role, content ...); `tools`: the same, or None; `more`: further variables, which
  /// come before special tokens of the same name. Throws as ChatTemplate does.
  jinja::Rendered render(const jinja::Value& messages, const jinja::Value& tools, bool add_generation_prompt,
                         std::time_t now, const jinja::Dict& more = {}) const;
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

/// The tokens that end what the model writes: eos_token_id of the folder's generation_config.json (an id, or a list),
/// eos_token of its special tokens, and the tokenizer's end of a document; ascending, each once. Throws Error(input)
/// for an id that the tokenizer does not have.
std::vector<std::int32_t> read_end_tokens(const std::filesystem::path& folder, const Tokenizer& tokenizer);

}  // namespace fourmi
