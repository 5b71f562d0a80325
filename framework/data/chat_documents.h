// Conversations and pairs of prompt and completion as token ids, with what of them is learned: JSON lines rendered with
// the model's chat template (framework/chat) and encoded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "framework/chat/model_chat.h"
#include "framework/data/chat_windows.h"
#include "framework/data/sources.h"

namespace fourmi {

/// The template that data.chat_template names; `model`: that of model.from, or what lies beside data.tokenizer; nothing
/// if none of these has one. Throws Error(input).
std::optional<ModelChat> find_chat_template(const DataSection& data);

/// One side of a source of conversations. Its share in the loss is said in the note, and refused if it is 0, or 1 where
/// not all is meant to be learned. `place` is the source's. Throws Error(input).
ChatDocuments chat_documents_of(const LoadedSource& source, Side side, double share, const DataSection& data,
                                const Tokenizer& tokenizer, const std::string& place, ThreadPool* pool = nullptr);

}  // namespace fourmi
