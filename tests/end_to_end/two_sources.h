// Two texts of known length with weights, and what the ledger of a run over them says.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {

/// Tokens that a source has: its bytes, and the one that opens a document.
struct SourceTokens {
  std::int64_t prose = 60'000, verse = 60'000;
};

/// Writes `prose` and `verse` into the folder, no two stretches of 32 bytes alike; the words of a recipe that reads
/// them three parts to one.
inline Words two_sources(const std::filesystem::path& folder, const SourceTokens& tokens = {}) {
  const auto write = [&](const std::string& name, std::int64_t num_tokens) {
    std::string text;
    for (int i = 0; std::ssize(text) < num_tokens; ++i) text += fmt::format("{} line {}\n", name, i * 7919 % 104729);
    text.resize(static_cast<std::size_t>(num_tokens - 1));
    std::ofstream(folder / name) << text;
  };
  write("prose", tokens.prose);
  write("verse", tokens.verse);
  return {
      fmt::format("data.train=[{{name: prose, path: {}, weight: 3, license: CC0-1.0, source: made here}}, "
                  "{{name: verse, path: {}, license: LicenseRef-verse}}]",
                  (folder / "prose").string(), (folder / "verse").string())};
}

inline Words joined(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// `ledger verify --data` is content; then `ledger trace`.
inline nlohmann::json verified_trace(const std::filesystem::path& run_directory) {
  expect_ok(run(fourmi({"ledger", "verify", run_directory, "--data"})));
  const Result result = run(fourmi({"ledger", "trace", run_directory, "--json"}));
  expect_ok(result);
  return nlohmann::json::parse(result.output);
}

/// The entries that `ledger show` lists; `all`: those of side branches too.
inline nlohmann::json ledger_entries(const std::filesystem::path& run_directory, bool all = false) {
  Words words{"ledger", "show", run_directory, "--json"};
  if (all) words.emplace_back("--all");
  const Result result = run(fourmi(words));
  expect_ok(result);
  return nlohmann::json::parse(result.output).at("entries");
}

/// Training state in the newest checkpoint: position in the data, what the guard knows.
inline nlohmann::json saved_training(const std::filesystem::path& run_directory) {
  return nlohmann::json::parse(text_of(newest_checkpoint(run_directory) / "manifest.json")).at("training");
}

}  // namespace fourmi::testing
