// Reads event files as a stranger would: frames, checksums and the few fields that are looked at, by code of its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace fourmi::testing {

struct SeenEvent {
  double wall_time = 0;
  std::int64_t step = 0;
  std::string file_version;
  bool session_start = false;
  std::map<std::string, float> scalars;
};

/// CRC-32C bit by bit, most direct form.
inline std::uint32_t slow_crc32c(const std::string& bytes) {
  std::uint32_t crc = ~0u;
  for (const unsigned char byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}
inline std::uint32_t slow_mask(std::uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <class T>
T take(const std::string& bytes, std::size_t& at) {
  T value{};
  if (at + sizeof(T) <= bytes.size()) std::memcpy(&value, bytes.data() + at, sizeof(T));
  at += sizeof(T);
  return value;
}

inline std::uint64_t take_varint(const std::string& bytes, std::size_t& at) {
  std::uint64_t value = 0;
  for (int shift = 0; at < bytes.size() && shift < 64; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes[at++]);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  return value;
}

/// One field of a message: its number, and its value by its wire type.
struct Wire {
  int field = 0, type = 0;
  std::uint64_t varint = 0;
  std::string bytes;  ///< types 1, 2 and 5
};

inline std::vector<Wire> fields_of(const std::string& message) {
  std::vector<Wire> fields;
  for (std::size_t at = 0; at < message.size();) {
    const std::uint64_t key = take_varint(message, at);
    Wire w{static_cast<int>(key >> 3), static_cast<int>(key & 7), 0, {}};
    if (w.type == 0) {
      w.varint = take_varint(message, at);
    } else {
      const std::size_t size = w.type == 1 ? 8 : w.type == 5 ? 4 : take_varint(message, at);
      w.bytes = message.substr(std::min(at, message.size()), size);
      at += size;
    }
    fields.push_back(w);
  }
  return fields;
}

inline SeenEvent read_event(const std::string& message) {
  SeenEvent e;
  for (const Wire& w : fields_of(message)) {
    std::size_t at = 0;
    if (w.field == 1) e.wall_time = take<double>(w.bytes, at);
    if (w.field == 2) e.step = static_cast<std::int64_t>(w.varint);
    if (w.field == 3) e.file_version = w.bytes;
    if (w.field == 7)
      for (const Wire& s : fields_of(w.bytes)) e.session_start = e.session_start || (s.field == 1 && s.varint == 1);
    if (w.field != 5) continue;
    for (const Wire& value : fields_of(w.bytes)) {
      std::string tag;
      for (const Wire& v : fields_of(value.bytes)) {
        std::size_t start = 0;
        if (v.field == 1) tag = v.bytes;
        if (v.field == 2) e.scalars[tag] = take<float>(v.bytes, start);
      }
    }
  }
  return e;
}

/// All events of a file; nothing if any frame or checksum is wrong, or something is left over.
inline std::optional<std::vector<SeenEvent>> read_events(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  std::vector<SeenEvent> events;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::string length_bytes = bytes.substr(at, 8);
    const auto length = take<std::uint64_t>(bytes, at);
    if (take<std::uint32_t>(bytes, at) != slow_mask(slow_crc32c(length_bytes))) return std::nullopt;
    if (at + length + 4 > bytes.size()) return std::nullopt;
    const std::string message = bytes.substr(at, length);
    at += length;
    if (take<std::uint32_t>(bytes, at) != slow_mask(slow_crc32c(message))) return std::nullopt;
    events.push_back(read_event(message));
  }
  return events;
}

inline std::vector<std::filesystem::path> event_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// Does every curve only go forward, unless a start said that its steps are done again? One that does not is drawn as a
/// zigzag.
inline bool goes_forward(const std::filesystem::path& folder) {
  std::map<std::string, std::int64_t> last;
  bool forward = true;
  for (const auto& file : event_files(folder))
    for (const SeenEvent& e : read_events(file).value_or(std::vector<SeenEvent>{})) {
      if (e.session_start)
        for (auto& [tag, step] : last) step = std::min(step, e.step - 1);
      for (const auto& [tag, value] : e.scalars) {
        const auto [at, first] = last.try_emplace(tag, e.step);
        forward = forward && (first || e.step > at->second);
        at->second = e.step;
      }
    }
  return forward;
}

/// What TensorBoard would draw of a folder: its files in the order of their names, each start forgetting its step and
/// later ones.
inline std::map<std::string, std::map<std::int64_t, float>> drawn(const std::filesystem::path& folder) {
  std::map<std::string, std::map<std::int64_t, float>> curves;
  for (const auto& file : event_files(folder))
    for (const SeenEvent& e : read_events(file).value_or(std::vector<SeenEvent>{})) {
      if (e.session_start)
        for (auto& [tag, curve] : curves) curve.erase(curve.lower_bound(e.step), curve.end());
      for (const auto& [tag, value] : e.scalars) curves[tag][e.step] = value;
    }
  return curves;
}

}  // namespace fourmi::testing
