// Who keeps a hung run waiting: what each rank was last seen doing, put into one sentence. No clock, no socket.
#pragma once

#include <chrono>
#include <span>
#include <string>

#include "parallel/calls.h"

namespace fourmi::watchdog {

/// What is known of one rank when nothing gets on any more.
struct RankView {
  bool gone = false;                   ///< said goodbye: nobody waits for it
  bool silent = false;                 ///< its process does not run
  std::chrono::milliseconds since{0};  ///< for how long: silent, or without progress
  WaitingCall call;                    ///< none: in code of its own
};

struct HangVerdict {
  int rank = 0;       ///< the first of those that the others wait for
  std::string cause;  ///< "found, expected", with group, call and ranks
};

/// Missing is who does not run; if all run, who is in no call; if all are in calls, who is in an earlier one than the
/// others of its group; else nobody, and the messages between them are.
HangVerdict explain_hang(std::span<const RankView> ranks, std::chrono::milliseconds limit);

/// "rank 3", "ranks 0-2, 5".
std::string rank_list(std::span<const int> ascending);

/// A beat's text and back; false for what is none.
std::string to_beat(std::chrono::milliseconds idle, const WaitingCall& call);
bool from_beat(const std::string& text, std::chrono::milliseconds& idle, WaitingCall& call);

}  // namespace fourmi::watchdog
