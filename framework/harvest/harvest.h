// A harvest: a teacher behind an OpenAI-compatible endpoint is asked for texts, once for each.
//
// The log knows of every request before it is sent and of every answer before anybody uses it, so a launch after any
// end goes on where the last one was; what was under way at a kill may be asked a second time, and counts as spent.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "framework/harvest/plan.h"
#include "framework/harvest/work.h"

namespace fourmi::harvest {

struct Watch {
  std::function<bool()> stop = [] { return false; };  ///< no more is asked; what is under way is waited for
  std::function<void(const Progress&)> progress = [](const Progress&) {};
  std::function<void(const std::string&)> say = [](const std::string&) {};  ///< what a person should know
  std::chrono::milliseconds every{10'000};
};

enum class End { complete, stopped, budget };

struct Summary {
  End end = End::complete;
  Progress progress;
  std::int64_t duplicate_prompts = 0, duplicate_answers = 0, lines = 0;
  std::int64_t input_tokens = 0, output_tokens = 0, syncs = 0;
  Money spent = 0;
};

/// Throws Error for what does not pass by asking again; what was answered until then is in the log.
Summary run_harvest(const Plan& plan, const Watch& watch);

}  // namespace fourmi::harvest
