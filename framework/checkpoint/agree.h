// How ranks stay of one mind when some of them do file work: what fails anywhere fails everywhere, with the same
// message.
#pragma once

#include <functional>
#include <string>

#include "kernels/runtime/error.h"
#include "parallel/group.h"

namespace fourmi {

/// A checkpoint is not what was saved: changed, cut short, incomplete. Exit status 4; `resume: auto` falls back past
/// it.
class DamageError : public Error {
 public:
  DamageError(std::string place, std::string cause, std::string remedy = {})
      : Error(ExitStatus::input, std::move(place), std::move(cause), std::move(remedy)) {}
};

/// Collective. Runs `work` (which makes no call of the group) on every rank. If it throws on any, the error of the
/// lowest such rank is thrown on all, its place naming the rank. A lost rank's error passes through as it is.
void agreed(Group& group, const std::function<void()>& work);

/// Collective. `text` of rank `root` on every rank.
void broadcast_text(Group& group, std::string& text, int root);

/// Collective. The texts of all ranks in rank order at rank 0; elsewhere empty.
std::vector<std::string> gather_texts(Group& group, const std::string& text);

}  // namespace fourmi
