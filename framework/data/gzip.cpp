#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstddef>

#include "framework/data/text.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr int gzip_window_bits = 15 + 16;  // 16: gzip members only, with their checksums proven
constexpr std::size_t piece = std::size_t{1} << 20;

/// Owns zlib's state; everything it reports carries the file's name and the offset that was reached.
class Inflater {
 public:
  Inflater(std::string_view data, const std::string& name) : data_(data), name_(name) {
    if (inflateInit2(&stream_, gzip_window_bits) != Z_OK)
      throw Error(ExitStatus::environment, name_, "zlib could not start, memory for one gzip stream was expected");
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  /// True when a member has ended.
  bool next(std::string& out) {
    const std::size_t given = std::min(piece, data_.size() - offset_);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data_.data() + offset_));
    stream_.avail_in = static_cast<uInt>(given);
    const std::size_t before = out.size();
    out.resize(before + piece);
    stream_.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    stream_.avail_out = static_cast<uInt>(piece);
    const int result = inflate(&stream_, Z_NO_FLUSH);
    offset_ += given - stream_.avail_in;
    out.resize(before + piece - stream_.avail_out);
    if (result == Z_STREAM_END) return true;
    if (result == Z_BUF_ERROR && offset_ == data_.size()) fail("the file ends inside a compressed stream");
    if (result != Z_OK && result != Z_BUF_ERROR)
      fail(fmt::format("corrupt gzip data ({})", stream_.msg != nullptr ? stream_.msg : "no detail"));
    return false;
  }
  void restart() { inflateReset(&stream_); }
  std::string_view rest() const { return data_.substr(offset_); }
  [[noreturn]] void fail(const std::string& found) const {
    throw Error(ExitStatus::input, fmt::format("{}: byte {}", name_, offset_),
                found + ", a whole gzip file was expected", "Fetch or install the file again.");
  }

 private:
  std::string_view data_;
  std::string name_;
  std::size_t offset_ = 0;
  z_stream stream_{};
};

}  // namespace

void append_gzip(std::string_view data, const std::string& name, std::string& out) {
  Inflater inflater(data, name);
  while (true) {
    while (!inflater.next(out)) {
    }
    // Archives pad with zeros, and gzip itself accepts them; anything else must be a further member.
    const std::string_view rest = inflater.rest();
    if (rest.find_first_not_of('\0') == std::string_view::npos) return;
    if (!rest.starts_with("\x1f\x8b")) inflater.fail("bytes that are no gzip stream follow the last one");
    inflater.restart();
  }
}

std::uint32_t Text::checksum() const {
  auto crc = crc32_z(crc32_z(0, nullptr, 0), reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  if (file_ends.size() > 1)
    crc = crc32_z(crc, reinterpret_cast<const Bytef*>(file_ends.data()), file_ends.size() * sizeof(file_ends[0]));
  return static_cast<std::uint32_t>(crc);
}

}  // namespace fourmi
