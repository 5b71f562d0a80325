// A conversation as the text that a model reads, and which of its bytes are the assistant's: those are learned.
#pragma once

#include <cstddef>
#include <ctime>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/chat/conversation.h"
#include "framework/chat/model_chat.h"

namespace fourmi {

enum class LossOn {
  assistant,  ///< every turn of the assistant (of a completion: those in it)
  all,        ///< every token
  last        ///< the last turn of the assistant
};

struct ConversationText {
  std::string text;
  std::vector<std::pair<std::size_t, std::size_t>> loss;  ///< bytes [begin, end), ascending, apart
};

struct TurnRules {
  LossOn loss_on = LossOn::assistant;
  /// Special tokens: a turn that the template does not mark itself ends behind the last of them that follows its text,
  /// which is what the assistant writes to end it (<|im_end|>); without one, before the white space that follows.
  std::span<const std::string> special_tokens;
  std::time_t now = 0;  ///< what the template is told
  bool dated = false;   ///< now is meant; else a template that writes a date is refused
};

/// Renders the conversation. The assistant's bytes are what the template marks with {% generation %}; without such
/// marks they begin where the prompt of all messages before ends (add_generation_prompt), and end as `rules` says.
/// Where the template writes earlier turns in another way once more messages follow, a turn is found by its texts'
/// places and by what surrounds them when it is the last; where that does not fit either, it is refused. Throws
/// Error(input) naming line, message and field, also for a text that the template left out (marked_fields.h).
ConversationText write_conversation(const Conversation& conversation, const ModelChat& chat, const TurnRules& rules);

}  // namespace fourmi
