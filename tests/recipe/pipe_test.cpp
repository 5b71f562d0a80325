// A recipe from a pipe, and a pipe that nobody writes to.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "framework/recipe/read_bytes.h"

namespace fourmi::recipe {
namespace {

class Pipe : public ::testing::Test {
 protected:
  Pipe() {
    std::string pattern = "/dev/shm/recipe_pipe_XXXXXX";
    folder_ = mkdtemp(pattern.data());
    path_ = folder_ / "pipe";
    EXPECT_EQ(mkfifo(path_.c_str(), 0600), 0);
  }
  ~Pipe() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_, path_;
};

TEST_F(Pipe, WithAWriterIsReadToItsEnd) {
  // Open at both ends, as a shell's <(...) is: the writer's pieces come late.
  const int writer = ::open(path_.c_str(), O_RDWR);
  std::thread late([&] {
    for (const char* piece : {"run: ", "{name: a}", "\n"}) {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      EXPECT_GT(::write(writer, piece, std::char_traits<char>::length(piece)), 0);
    }
  });
  std::string text;
  std::thread closing([&] {
    late.join();
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    ::close(writer);
  });
  EXPECT_EQ(read_bytes(path_, 1000, text), "");
  closing.join();
  EXPECT_EQ(text, "run: {name: a}\n");
}

TEST_F(Pipe, WithoutAWriterIsNotWaitedFor) {
  std::string text;
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(read_bytes(path_, 1000, text), "");
  EXPECT_EQ(text, "");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
}

TEST_F(Pipe, OfASilentWriterIsNotWaitedForLong) {
  const int writer = ::open(path_.c_str(), O_RDWR);
  std::string text;
  EXPECT_EQ(read_bytes(path_, 1000, text), "a pipe that nobody writes to");
  ::close(writer);
}

TEST_F(Pipe, FoldersAbsentFilesAndLoopsAreNamed) {
  std::string text;
  EXPECT_EQ(read_bytes(folder_, 1000, text), "a folder");
  EXPECT_EQ(read_bytes(folder_ / "absent", 1000, text), "No such file or directory");
  std::filesystem::create_symlink("loop", folder_ / "loop");
  EXPECT_EQ(read_bytes(folder_ / "loop", 1000, text), "Too many levels of symbolic links");
}

}  // namespace
}  // namespace fourmi::recipe
