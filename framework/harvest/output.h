// What a harvest leaves: OUTPUT/messages.jsonl, and OUTPUT/.harvest/state.json, which says whether that is all of it.
// What begins with a dot is not read as data by a recipe that names the folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "framework/harvest/log.h"
#include "framework/harvest/plan.h"
#include "framework/harvest/records.h"

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

/// Not complete from here on, whatever messages.jsonl holds.
void mark_incomplete(const Plan& plan);
void write_state(const Plan& plan, const Log& log, const Records& records, const Written& written, bool complete);

/// Whether the folder holds a harvest that came to its end, with the messages that were written then.
bool is_complete(const std::filesystem::path& output);

}  // namespace fourmi::harvest
