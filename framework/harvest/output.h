// What a harvest leaves: OUTPUT/messages.jsonl, and OUTPUT/.harvest/state.json, which says whether that is all of it.
// What begins with a dot is not read as data by a recipe that names the folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "framework/harvest/log.h"
#include "framework/harvest/plan.h"
#include "framework/harvest/records.h"
#include "framework/harvest/work.h"

namespace fourmi::harvest {

std::filesystem::path messages_file(const std::filesystem::path& output);
std::filesystem::path log_file(const std::filesystem::path& output);
std::filesystem::path state_file(const std::filesystem::path& output);

struct Written {
  std::int64_t lines = 0, duplicates = 0;
  std::string sha256;
};

/// Writes all kept answers in the order of prompts and samples, equal ones of a prompt once; aside, then renamed.
Written write_messages(const Plan& plan, const Log& log, const Records& records);

/// What the harvest says of itself. `written`: at its end; nullptr: while it goes on, so it is not complete, whatever
/// messages.jsonl holds of a launch before.
void write_state(const Plan& plan, const Log& log, const Progress& progress, const Written* written);

}  // namespace fourmi::harvest
