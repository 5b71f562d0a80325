// How a model is spoken to: its tokenizer, what its texts begin with and end at, and its template for conversations.
// `generate` and `serve` ask here, so that both write the same text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/chat/chat_prompt.h"
#include "framework/tokenizer/tokenizer.h"
#include "framework/train/inference.h"

namespace fourmi {

struct Speaker {
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<std::int32_t> begin_of_text;
  std::vector<std::int32_t> ends;  ///< each of them ends what the model writes
  std::optional<ModelChat> chat;   ///< nothing: the model has no template
  std::string no_chat;             ///< then: why
};

/// Of the model's run and its companions (framework/run/companions.h). `chat_template`: a file that is taken instead of
/// theirs; empty: none. Throws Error(input) naming what cannot be read.
Speaker make_speaker(const InferenceModel& model, const std::filesystem::path& chat_template);

}  // namespace fourmi
