// Files and gzip streams for the tests of framework/data.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "kernels/runtime/error.h"

namespace fourmi::test {

/// A temporary folder that goes with the object.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "fourmi-data-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "no temporary folder " << name;
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }
  std::string write(const std::string& name, const std::string& bytes) const {
    const std::filesystem::path file = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
    return file.string();
  }

 private:
  std::string path_;
};

/// One gzip member. With a piece size, as dictzip writes it: an extra field in the header, a full flush after each
/// piece.
inline std::string gzip(const std::string& text, std::size_t piece = 0) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY);
  unsigned char extra[] = {'R', 'A', 2, 0, 1, 0};
  gz_header header{};
  header.extra = extra;
  header.extra_len = sizeof extra;
  if (piece > 0) deflateSetHeader(&stream, &header);
  std::string out(text.size() + text.size() / 2 + 4096, '\0');
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  std::size_t at = 0;
  do {
    const std::size_t n = std::min(piece > 0 ? piece : text.size(), text.size() - at);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data() + at));
    stream.avail_in = static_cast<uInt>(n);
    at += n;
    deflate(&stream, at == text.size() ? Z_FINISH : Z_FULL_FLUSH);
  } while (at < text.size());
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}
inline std::string dictzip(const std::string& text) {
  return gzip(text, 58315);
}

/// The message of the Error that `action` must throw, with this exit status.
template <class Action>
std::string message_of(ExitStatus status, Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), status) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

}  // namespace fourmi::test
