// The write-ahead log of a harvest: records that are appended, and on the disk before anybody relies on them.
//
// A record is a line: its length and a check of that (8 hexadecimal digits each), its digest (64), a space between
// each, the text, a line feed. The digest is the SHA-256 of the digest before and the text, so a record that is
// changed, missing or in another place is found. What a kill or a power failure leaves of the last write - a part of a
// record, or zeros - is cut off; anything else is an error that names the offset.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>

#include "framework/run/files.h"

namespace fourmi::harvest {

class Log {
 public:
  using Apply = std::function<void(std::int64_t offset, const std::string& text)>;

  /// Opens or makes the file, locks it and gives all records to `apply`, in order. Throws Error(environment) where
  /// another process has it, Error(input) naming the offset of what is damaged.
  Log(const std::filesystem::path& path, const Apply& apply);

  std::int64_t cut_bytes() const { return cut_; }  ///< of a torn tail, that were cut off
  /// Appends one record without a line feed in it; its offset. Any thread.
  std::int64_t append(const std::string& text);
  /// Returns when all that was appended before is on the disk; those who wait at the same time share one fsync.
  void sync();
  std::string read(std::int64_t offset) const;  ///< the record at an offset
  std::string digest() const;                   ///< of the last record: tells of all
  std::int64_t size() const;
  std::int64_t num_syncs() const;

 private:
  void replay(const Apply& apply);

  std::filesystem::path path_;
  files::Descriptor file_;
  mutable std::mutex mutex_;
  std::condition_variable synced_;
  std::string digest_;
  std::int64_t size_ = 0, on_disk_ = 0, cut_ = 0, syncs_ = 0;
  bool syncing_ = false, failed_ = false;
};

}  // namespace fourmi::harvest
