// TensorBoard's event files, written by hand: a record is length (u64), masked CRC-32C of these 8 bytes, data, masked
// CRC-32C of the data, all little-endian; the data is a protobuf message `Event` (wall_time = 1, step = 2,
// file_version = 3, summary = 5, session_log = 7), of which scalars and the session's start are all that we need.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/run/files.h"

namespace fourmi {

/// Figures by tag. TensorBoard keeps them as 32-bit floats.
using Scalars = std::vector<std::pair<std::string, double>>;

/// One framed record.
std::string event_record(std::string_view event);
/// The message that begins a file: its format's version.
std::string version_event(double wall_time);
/// "From here on steps `step` and later are mine": readers forget those that earlier files have.
std::string start_event(double wall_time, std::int64_t step);
std::string scalars_event(double wall_time, std::int64_t step, const Scalars& scalars);

/// Appends records. A full disk ends nothing: the file is cut back to its last whole record, and what could not be
/// written waits in memory and is tried again with the next record; beyond a limit the oldest that wait are dropped.
class EventFile {
 public:
  explicit EventFile(
      const std::filesystem::path& path);  ///< a new file; one that cannot be made fails with every append
  ~EventFile();
  EventFile(EventFile&&) = default;
  EventFile& operator=(EventFile&&) = default;

  /// Is all written? False is told once by the caller.
  bool append(std::string_view event);
  std::size_t num_dropped() const { return dropped_; }

 private:
  bool write_pending();

  files::Descriptor file_;
  std::vector<std::string> pending_;
  std::size_t pending_bytes_ = 0, dropped_ = 0;
};

}  // namespace fourmi
