// What `fourmi teacher harvest` left beside the messages that it wrote, and what the ledger says of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/ledger/entry.h"
#include "framework/ledger/teacher_fact.h"

namespace fourmi {

/// "harvest": who wrote the texts of a source, and under which terms.
struct HarvestFact {
  static constexpr std::string_view type = "harvest";
  std::string dataset;  ///< DatasetFact::id of the source
  std::string teacher, model, endpoint, license;
  std::string terms_url, terms_sha256;  ///< of the saved copy; empty: there is none
  std::vector<std::string> allows, obligations;
  std::string sampling;  ///< JSON object of what requests said about it
  std::string prompts_sha256;
  std::string log_sha256;       ///< of the log of requests and answers: its last record's, which tells of all
  std::string messages_sha256;  ///< empty: a launch that was killed left none
  bool complete = false;        ///< every prompt had its answers
  std::int64_t prompts = 0, prompts_done = 0, answers = 0, kept = 0;
};

std::string to_payload(const HarvestFact& fact);
/// Throws Error(input) at `place` naming the entry if a member is missing or of another kind.
HarvestFact harvest_fact(const LedgerEntry& entry, const std::string& place);
/// One line that says what the fact says.
std::string describe(const HarvestFact& fact);
/// Whoever learns the texts learns from him who wrote them.
TeacherFact teacher_of(const HarvestFact& fact);

/// Does the folder belong to a harvest?
bool holds_harvest(const std::filesystem::path& folder);
/// What the harvest in this folder says of itself; `dataset` is empty. Of one that has not said anything yet all is
/// empty. Throws Error(input) where that cannot be read.
HarvestFact read_harvest(const std::filesystem::path& folder);

}  // namespace fourmi
