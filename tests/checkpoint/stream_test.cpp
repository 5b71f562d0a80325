// Files written and read past the page cache: the same bytes whatever the file system makes of the wish.
#include "framework/checkpoint/stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/checkpoint/faulty_disk.h"
#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

/// Counts transfers with direct access; refuses it where it is told to.
class WatchedDisk : public Disk {
 public:
  bool refuse_open = false, refuse_transfer = false;
  int direct = 0, cached = 0;

  int open(const char* path, int flags, mode_t mode) override {
    if (!refuse_open || (flags & O_DIRECT) == 0) return Disk::open(path, flags, mode);
    const int file = Disk::open(path, flags & ~O_DIRECT, mode);  // the file is made all the same, as some kernels do
    if (file >= 0) Disk::close(file);
    errno = EINVAL;
    return -1;
  }
  ssize_t pwrite(int file, const void* data, std::size_t bytes, off_t offset) override {
    return refused(file) ? -1 : Disk::pwrite(file, data, bytes, offset);
  }
  ssize_t pread(int file, void* data, std::size_t bytes, off_t offset) override {
    return refused(file) ? -1 : Disk::pread(file, data, bytes, offset);
  }

 private:
  bool refused(int file) {
    const bool is_direct = (::fcntl(file, F_GETFL) & O_DIRECT) != 0;
    errno = EINVAL;
    if (is_direct && refuse_transfer) return true;
    ++(is_direct ? direct : cached);
    return false;
  }
};

std::string sample(std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>((i * 2654435761u) >> 13);
  return text;
}

void write(Disk& disk, const std::filesystem::path& path, std::string_view text, std::size_t piece) {
  StreamWriter writer(disk, path);
  for (std::size_t i = 0; i < text.size(); i += piece) writer.append(std::as_bytes(std::span(text.substr(i, piece))));
  writer.finish();
}

std::string read(Disk& disk, const std::filesystem::path& path, std::size_t bytes, std::size_t most) {
  StreamReader reader(disk, path);
  std::string text;
  while (text.size() < bytes) {
    const auto piece = reader.next(std::min(most, bytes - text.size()));
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  }
  EXPECT_THROW(reader.next(1), DamageError);
  return text;
}

std::string content(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

TEST(Stream, CarriesEveryByteOfEverySize) {
  const TemporaryFolder folder;
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, direct_block - 1, direct_block, direct_block + 1, StreamBuffer::size - 1,
        StreamBuffer::size, 2 * StreamBuffer::size + 3 * direct_block + 5})
    for (const bool refuse_open : {false, true})
      for (const bool refuse_transfer : {false, true}) {
        SCOPED_TRACE(::testing::Message() << bytes << " bytes" << (refuse_open ? ", no direct open" : "")
                                          << (refuse_transfer ? ", no direct transfer" : ""));
        WatchedDisk disk;
        disk.refuse_open = refuse_open;
        disk.refuse_transfer = refuse_transfer;
        const auto path = folder.path() / "file";
        const std::string text = sample(bytes);
        write(disk, path, text, 300'007);
        EXPECT_TRUE(content(path) == text);
        EXPECT_TRUE(read(disk, path, bytes, 70'001) == text);
        std::filesystem::remove(path);
      }
}

TEST(Stream, OnlyTheLastBlockGoesThroughThePageCache) {
  const TemporaryFolder folder;
  WatchedDisk disk;
  const int file = ::open((folder.path() / "probe").c_str(), O_CREAT | O_WRONLY | O_DIRECT, 0644);
  if (file < 0) GTEST_SKIP() << folder.path() << " lies on a file system without direct access";
  ::close(file);
  const std::size_t bytes = 2 * StreamBuffer::size + 3 * direct_block + 5;
  write(disk, folder.path() / "file", sample(bytes), 300'007);
  EXPECT_GE(disk.direct, 3);  // where memory is the disk, even the odd bytes go directly
  EXPECT_EQ(disk.direct + disk.cached, 4);
  read(disk, folder.path() / "file", bytes, 70'001);
  EXPECT_GE(disk.direct, 6);
}

TEST(Stream, GoesOnAfterPartOfAWrite) {
  const TemporaryFolder folder;
  SlowDisk disk;
  const std::string text = sample(3 * direct_block + 100);
  write(disk, folder.path() / "file", text, 1000);
  EXPECT_TRUE(content(folder.path() / "file") == text);
  EXPECT_TRUE(read(disk, folder.path() / "file", text.size(), 1000) == text);
}

TEST(Stream, AFullDiskIsTold) {
  const TemporaryFolder folder;
  SmallDisk disk(static_cast<std::int64_t>(StreamBuffer::size) + 8192);
  const std::string text = sample(2 * StreamBuffer::size);
  try {
    write(disk, folder.path() / "file", text, text.size());
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::environment);
    EXPECT_NE(e.cause().find("No space left"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace fourmi::testing
