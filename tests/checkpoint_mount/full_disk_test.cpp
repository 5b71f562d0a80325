// A disk that is really full: a tmpfs in a mount namespace of a child process, so nothing is left behind.
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "framework/checkpoint/folder.h"
#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

constexpr int cannot_mount = 77, ranks = 4;

/// A mount namespace of our own; where that takes privileges, as root of a user namespace of our own.
bool own_namespace() {
  if (unshare(CLONE_NEWNS) == 0) return true;
  const auto user = getuid(), group = getgid();
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/gid_map") << "0 " << group << " 1";
  return getuid() == 0;
}

bool mount_small_disk(const fs::path& place) {
  if (!own_namespace()) return false;
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  return mount("none", place.c_str(), "tmpfs", 0, "size=3m") == 0;
}

/// 512 KiB over four ranks.
SaveOutcome save(const fs::path& checkpoints, std::int64_t step, std::vector<SaveOutcome>& all) {
  all.assign(ranks, {});
  on_ranks(ranks, [&](Group& group) {
    std::vector<float> rows(1024 * 32, static_cast<float>(step));
    const Box box{"/model/weight", "", {4096, 32}, 1024 * group.rank(), Tensor(rows.data(), DType::f32, {1024, 32})};
    all[static_cast<std::size_t>(group.rank())] =
        save_checkpoint(group, checkpoints, std::span(&box, 1), sample_state(step));
  });
  return all[0];
}

void loads(const fs::path& checkpoints, std::int64_t step) {
  const auto group = make_self_group("test");
  const Choice c = choose_newest(*group, checkpoints, true);
  ASSERT_TRUE(c.checkpoint);
  EXPECT_EQ(c.checkpoint->manifest.state.step, step);
  std::vector<float> rows(4096 * 32);
  const Box box{"/model/weight", "", {4096, 32}, 0, Tensor(rows.data(), DType::f32, {4096, 32})};
  load_boxes(*group, *c.checkpoint, std::span(&box, 1));
  prove_live_state(*group, *c.checkpoint, std::span(&box, 1));
  for (float x : rows) ASSERT_EQ(x, static_cast<float>(step));
}

void fill_to(const fs::path& disk, std::uintmax_t free_bytes) {
  std::ofstream filler(disk / "filler", std::ios::binary);
  const std::string page(4096, 'x');
  while (fs::space(disk).available > free_bytes) filler << page << std::flush;
}

void try_every_size(const fs::path& disk) {
  const fs::path checkpoints = disk / "checkpoints";
  std::vector<SaveOutcome> all;
  ASSERT_TRUE(save(checkpoints, 10, all).committed());
  int failures = 0;
  bool committed = false;
  for (std::uintmax_t room = 0; !committed && room < (1 << 20); room += 12288) {
    fill_to(disk, room);
    committed = save(checkpoints, 20, all).committed();
    for (const SaveOutcome& o : all) ASSERT_EQ(o.committed(), committed);
    if (!committed) {
      ++failures;
      for (const SaveOutcome& o : all) {
        EXPECT_EQ(o.error->status(), ExitStatus::environment);
        EXPECT_STREQ(o.error->what(), all[0].error->what());
        EXPECT_NE(std::string(o.error->what()).find("No space left on device"), std::string::npos);
      }
    }
    loads(checkpoints, committed ? 20 : 10);
    fs::remove(disk / "filler");
  }
  EXPECT_TRUE(committed);
  EXPECT_GT(failures, 30);
  ASSERT_TRUE(save(checkpoints, 30, all).committed());
  loads(checkpoints, 30);
}

TEST(FullDisk, EverySizeFailsOnAllRanksAndKeepsTheOlderCheckpoint) {
  const TemporaryFolder place;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (!mount_small_disk(place.path())) _exit(cannot_mount);
    try_every_size(place.path());
    std::fflush(nullptr);
    _exit(HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == cannot_mount)
    GTEST_SKIP() << "this process may not mount a tmpfs (root or user namespaces)";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace fourmi::testing
