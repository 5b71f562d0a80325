// What a schedule sends: the lists of its ranks with their sends and receives between the actions.
#pragma once

#include <vector>

#include "parallel/schedule/schedule.h"

namespace fourmi {

/// A stage's output on its way to the next stage, or the gradient of it on its way back.
struct Message {
  int from = 0, to = 0;  ///< ranks, not the same
  int stage = 0;         ///< whose output it is
  int micro_batch = 0;
  bool gradient = false;
  bool operator==(const Message&) const = default;
};

struct Step {
  enum class Kind : std::uint8_t { send, receive, act } kind = Kind::act;
  Action action;    ///< act
  Message message;  ///< send, receive
};

/// For each rank its actions with, after each, what it sends, and, before each, what must have come. Between two ranks
/// messages are received in the order in which they are sent (a channel without tags keeps no other), so some are
/// received before their turn. What stays on a rank is no message.
std::vector<std::vector<Step>> with_transfers(const Schedule& schedule);

/// What an action of a rank waits for and what it gives: outputs and gradients of stages.
struct Needs {
  std::vector<Message> inputs, outputs;  ///< with from == to where they stay on the rank
};
Needs needs_of(const Schedule& schedule, int rank, const Action& action);

}  // namespace fourmi
