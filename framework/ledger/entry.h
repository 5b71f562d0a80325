// One entry of a ledger: a line of canonical JSON that names its parent by SHA-256 and carries its own.
//
//   {"index":4,"payload":{...},"previous":"<64 digits>","sha256":"<64
//   digits>","time":"2026-11-22T10:00:00Z","type":"tokens"}
//
// Canonical (RFC 8785 for what we write: ASCII keys, whole numbers, strings, lists, maps): keys ascending, no white
// space. The digest is that of the same object without "sha256". A line is valid only if it is, byte for byte, what its
// own content is written as: a flip anywhere in it is found.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fourmi {

struct LedgerEntry {
  std::string sha256;      ///< the entry's name
  std::string previous;    ///< its parent's; empty: a root
  std::int64_t index = 0;  ///< distance from the root
  std::string type;        ///< run, dataset, launch, tokens, checkpoint, rollback, promotion, branch, model.from, ...
  std::string time;        ///< UTC
  std::string payload;     ///< canonical JSON, a map
};

/// Fills in `sha256`. `payload` must be a JSON map of strings, whole numbers, lists and maps; it is made canonical.
LedgerEntry make_entry(const LedgerEntry* parent, std::string_view type, std::string_view payload,
                       std::string_view time);

/// The line, without line break.
std::string to_line(const LedgerEntry& entry);

/// Nothing if the line is not byte for byte what to_line writes for its content.
std::optional<LedgerEntry> parse_line(std::string_view line);

/// "entry 4 (tokens, 0f3a9c2b51d7)": how messages name one.
std::string name_of(const LedgerEntry& entry);
/// The first 12 digits: enough to tell entries apart by eye.
std::string short_digest(std::string_view sha256);
/// 64 lower-case hexadecimal digits?
bool is_sha256(std::string_view text);

/// Now, as entries say it.
std::string utc_now();

/// Longer lines, or deeper ones, are no entries.
inline constexpr std::size_t most_line_bytes = std::size_t{256} << 20;
inline constexpr int deepest_payload = 16;

}  // namespace fourmi
