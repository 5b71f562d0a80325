// An import that is killed, at moments drawn from a seed: the same command goes on and ends with the same checkpoint.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <random>

#include "framework/interop/import.h"
#include "tests/interop/folders.h"

namespace fourmi::interop {
namespace {

namespace fs = std::filesystem;

/// Counts what is asked of the file system; the process is gone, as by kill -9, in the middle of operation `last`: of a
/// write half is done, of a rename nothing.
class DeadlyDisk final : public Disk {
 public:
  explicit DeadlyDisk(std::int64_t last) : last_(last) {}
  std::int64_t count() const { return count_; }

  int open(const char* path, int flags, mode_t mode) override {
    die_if_last();
    return Disk::open(path, flags, mode);
  }
  ssize_t pwrite(int file, const void* data, std::size_t bytes, off_t offset) override {
    if (count_ + 1 == last_) Disk::pwrite(file, data, bytes / 2, offset);
    die_if_last();
    return Disk::pwrite(file, data, bytes, offset);
  }
  int fsync(int file) override {
    die_if_last();
    return Disk::fsync(file);
  }
  int rename(const char* from, const char* to) override {
    die_if_last();
    return Disk::rename(from, to);
  }

 private:
  void die_if_last() {
    if (++count_ == last_) ::kill(::getpid(), SIGKILL);
  }
  std::int64_t last_, count_ = 0;
};

ImportReport import_on(Disk& disk, const fs::path& from, const fs::path& to) {
  const auto group = make_self_group("import");
  ImportOptions options{.file_bytes = 40000};
  options.disk = &disk;
  return import_model(*group, from, to, options);
}

/// In a process of its own. True: it was killed; else it ended by itself, and well.
bool killed_at(std::int64_t operation, const fs::path& from, const fs::path& to) {
  const pid_t child = ::fork();
  if (child == 0) {
    DeadlyDisk disk(operation);
    try {
      import_on(disk, from, to);
    } catch (const std::exception& e) {
      std::fputs(e.what(), stderr);
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  EXPECT_TRUE(killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) << status;
  return killed;
}

class KilledImport : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Kinds, KilledImport, testing::Values("golden/qwen3-moe", "interop/gguf/bytes.gguf"),
                         [](const auto& i) {
                           return fs::path(i.param).extension() == ".gguf" ? "gguf" : "safetensors";
                         });

TEST_P(KilledImport, GoesOnToTheSameCheckpoint) {
  const fs::path from = fs::path(FOURMI_SOURCE_DIR) / "tests" / GetParam();
  Folder f;
  DeadlyDisk counting(0);
  const ImportReport whole = import_on(counting, from, f.path / "whole");
  ASSERT_GT(whole.files, 2);
  ASSERT_GT(counting.count(), 40);
  std::mt19937 random(11);
  int kills = 0, kept = 0;
  for (int round = 0; round < 4; ++round) {
    const fs::path to = f.path / fmt::format("run-{}", round);
    // Twice in one import: what the second try does is less, so its moment may be past the end.
    for (int i = 0; i < 2; ++i)
      kills += killed_at(1 + static_cast<std::int64_t>(random() % static_cast<unsigned>(counting.count())), from, to);
    const ImportReport last = import_on(real_disk(), from, to);
    EXPECT_EQ(last.root, whole.root) << round;
    kept += last.files_kept > 0;
    for (const fs::directory_entry& e : fs::directory_iterator(to / "checkpoints"))
      EXPECT_TRUE(e.path().filename() == "step-00000000" || e.path().filename() == "latest") << e.path();
    for (const fs::directory_entry& e : fs::directory_iterator(to / "checkpoints/step-00000000"))
      EXPECT_TRUE(e.path().extension() == ".h5" || e.path().filename() == "manifest.json") << e.path();
  }
  EXPECT_GE(kills, 5);
  EXPECT_GE(kept, 1) << "no kill came between two files";
}

}  // namespace
}  // namespace fourmi::interop
