#include "framework/telemetry/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>

#include "framework/telemetry/crc32c.h"

namespace fourmi {

static_assert(std::endian::native == std::endian::little);

namespace {

template <class T>
void add_bytes(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Protobuf's wire format: a key is (field number << 3) | wire type, of which 0 is a varint, 1 has 8 bytes, 2 has a
// length and 5 has 4 bytes.
void add_varint(std::string& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to.push_back(static_cast<char>(value | 0x80));
  to.push_back(static_cast<char>(value));
}
void add_key(std::string& to, int field, int wire_type) {
  add_varint(to, static_cast<std::uint64_t>(field << 3 | wire_type));
}
void add_double(std::string& to, int field, double value) {
  add_key(to, field, 1);
  add_bytes(to, value);
}
void add_float(std::string& to, int field, float value) {
  add_key(to, field, 5);
  add_bytes(to, value);
}
void add_whole(std::string& to, int field, std::int64_t value) {
  add_key(to, field, 0);
  add_varint(to, static_cast<std::uint64_t>(value));
}
void add_text(std::string& to, int field, std::string_view text) {
  add_key(to, field, 2);
  add_varint(to, text.size());
  to += text;
}

std::string event(double wall_time, std::int64_t step) {
  std::string e;
  add_double(e, 1, wall_time);
  if (step != 0) add_whole(e, 2, step);
  return e;
}

constexpr std::size_t most_pending = std::size_t{16} << 20;

}  // namespace

std::string event_record(std::string_view event) {
  std::string record;
  record.reserve(event.size() + 16);
  add_bytes(record, static_cast<std::uint64_t>(event.size()));
  add_bytes(record, masked_crc32c(record));
  record += event;
  add_bytes(record, masked_crc32c(event));
  return record;
}

std::string version_event(double wall_time) {
  std::string e = event(wall_time, 0);
  add_text(e, 3, "brain.Event:2");
  return e;
}

std::string start_event(double wall_time, std::int64_t step) {
  std::string e = event(wall_time, step), log;
  add_whole(log, 1, 1);  // SessionLog.status = START
  add_text(e, 7, log);
  return e;
}

std::string scalars_event(double wall_time, std::int64_t step, const Scalars& scalars) {
  std::string e = event(wall_time, step), summary, value;
  for (const auto& [tag, figure] : scalars) {
    value.clear();
    add_text(value, 1, tag);
    add_float(value, 2, static_cast<float>(figure));
    add_text(summary, 1, value);
  }
  add_text(e, 5, summary);
  return e;
}

EventFile::EventFile(const std::filesystem::path& path)
    : file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666)) {}

EventFile::~EventFile() {
  if (file_) write_pending();
}

bool EventFile::append(std::string_view event) {
  pending_.push_back(event_record(event));
  pending_bytes_ += pending_.back().size();
  const bool done = write_pending();
  std::size_t drop = 0;
  while (pending_bytes_ > most_pending) pending_bytes_ -= pending_[drop++].size();
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(drop));
  dropped_ += drop;
  return done;
}

bool EventFile::write_pending() {
  if (!file_) return false;
  std::size_t written = 0;
  for (const std::string& record : pending_) {
    const off_t before = ::lseek(file_.get(), 0, SEEK_END);
    ssize_t n = 0;
    do n = ::write(file_.get(), record.data(), record.size());
    while (n < 0 && errno == EINTR);
    if (n != static_cast<ssize_t>(record.size())) {
      // A reader never sees half a record followed by others.
      if (n > 0 && ::ftruncate(file_.get(), before) != 0) file_ = files::Descriptor();
      break;
    }
    pending_bytes_ -= record.size();
    ++written;
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(written));
  return pending_.empty();
}

}  // namespace fourmi
