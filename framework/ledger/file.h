// ledger.jsonl as it lies on the disk: a tree of entries, parents before children. Reading judges every line; writing
// only ever adds whole lines at the end.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "framework/ledger/entry.h"

namespace fourmi {

class LedgerFile {
 public:
  struct Damage {
    std::int64_t line = 0;  ///< from 1
    std::string what;
  };

  LedgerFile() = default;
  /// Judges a ledger's text; never throws.
  explicit LedgerFile(std::string_view text);

  const std::deque<LedgerEntry>& entries() const { return entries_; }  ///< in the file's order
  /// Lines that are no entries, stand before their parent or twice, or deny their parent's index.
  const std::vector<Damage>& damage() const { return damage_; }
  /// Bytes after the last line break that are no whole entry: what a kill tore, never part of a lineage.
  std::size_t torn_bytes() const { return torn_bytes_; }
  /// The last line is an entry that lacks only its line break.
  bool needs_line_break() const { return needs_line_break_; }

  const LedgerEntry* find(std::string_view sha256) const;
  void add(LedgerEntry entry);

  /// From the root to `head`. Throws Error(input) at `place`: an entry of it is missing.
  std::vector<const LedgerEntry*> lineage(std::string_view head, const std::string& place) const;

 private:
  void judge(std::string_view line, std::int64_t number);

  std::deque<LedgerEntry> entries_;  // pointers to entries stay good
  std::unordered_map<std::string, std::size_t> by_name_;
  std::vector<Damage> damage_;
  std::size_t torn_bytes_ = 0;
  bool needs_line_break_ = false;
};

/// Reads a ledger; an absent file has no entries. Throws Error(environment) if it cannot be read, Error(input) if it is
/// no file.
LedgerFile read_ledger(const std::filesystem::path& path);

/// Appends to a ledger. One writer at a time: the owner of the run directory.
class LedgerWriter {
 public:
  /// Reads the file and makes its end whole: a line that a kill tore is cut off. Throws Error(environment).
  explicit LedgerWriter(std::filesystem::path path);
  ~LedgerWriter();
  LedgerWriter(const LedgerWriter&) = delete;
  LedgerWriter& operator=(const LedgerWriter&) = delete;

  const LedgerFile& file() const { return file_; }
  const std::filesystem::path& path() const { return path_; }
  std::size_t cut_off() const { return cut_off_; }  ///< torn bytes that were cut off at opening

  /// Adds entries that are not there yet (their parents are there or among those before them) and makes all of them
  /// last. Throws Error(environment); the file is then as it was, or cut back to that before the next entry is written.
  void append(const std::vector<LedgerEntry>& entries);

 private:
  void cut_back();

  std::filesystem::path path_;
  LedgerFile file_;
  int fd_ = -1;
  std::int64_t size_ = 0;  ///< bytes that are whole and synced
  std::size_t cut_off_ = 0;
  bool dirty_ = false;  ///< there may be bytes beyond size_
};

}  // namespace fourmi
