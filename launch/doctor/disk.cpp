#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <system_error>
#include <vector>

#include "framework/run/files.h"
#include "launch/doctor/look.h"

namespace fourmi::doctor {

namespace fs = std::filesystem;

namespace {

/// The file system's name by its magic number (statfs(2), linux/magic.h).
std::string kind_of(const struct statfs& disk) {
  static const std::map<unsigned long, const char*> names = {
      {0xef53, "ext"},         {0x58465342, "xfs"},     {0x9123683e, "btrfs"},          {0x01021994, "tmpfs"},
      {0x794c7630, "overlay"}, {0x6969, "nfs"},         {0x0bd00bd0, "lustre"},         {0x47504653, "gpfs"},
      {0x2fc12fc1, "zfs"},     {0x65735546, "fuse"},    {0xff534d42, "cifs"},           {0xfe534d42, "smb2"},
      {0x00c36400, "ceph"},    {0x01021997, "9p"},      {0x19830326, "fhgfs (BeeGFS)"}, {0x858458f6, "ramfs"},
      {0xf2f52010, "f2fs"},    {0x6a656a63, "virtiofs"}};
  const auto found = names.find(static_cast<unsigned long>(disk.f_type) & 0xffffffffUL);
  return found != names.end() ? found->second
                              : fmt::format("magic {:#x}", static_cast<unsigned long>(disk.f_type) & 0xffffffffUL);
}

fs::path nearest_existing(fs::path path) {
  std::error_code error;
  path = fs::absolute(path, error).lexically_normal();
  while (!path.empty() && !fs::exists(path, error) && path.has_parent_path() && path != path.parent_path())
    path = path.parent_path();
  return path;
}

/// A folder for trials that goes with it.
class TrialFolder {
 public:
  explicit TrialFolder(const fs::path& in) {
    std::string name = (in / ".fourmi-doctor-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) path_ = name;
    error_ = path_.empty() ? std::strerror(errno) : "";
  }
  ~TrialFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  TrialFolder(const TrialFolder&) = delete;
  TrialFolder& operator=(const TrialFolder&) = delete;
  const fs::path& path() const { return path_; }
  const std::string& error() const { return error_; }

 private:
  fs::path path_;
  std::string error_;
};

/// Can hard links be made (the lease needs them)? Empty: yes.
std::string link_trouble(const fs::path& folder) {
  const fs::path from = folder / "a", to = folder / "b";
  const files::Descriptor file(::open(from.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return std::strerror(errno);
  return ::link(from.c_str(), to.c_str()) == 0 ? "" : std::strerror(errno);
}

/// Bytes a second that reach the disk, or why none.
std::string write_speed(const fs::path& folder) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t piece = std::size_t{4} << 20, most = std::size_t{128} << 20;
  const std::vector<char> bytes(piece, 'f');
  const files::Descriptor file(::open((folder / "speed").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return std::strerror(errno);
  std::size_t written = 0;
  const auto start = Clock::now();
  while (written < most && Clock::now() - start < std::chrono::milliseconds(500)) {
    const ssize_t n = ::write(file.get(), bytes.data(), bytes.size());
    if (n <= 0) return n < 0 ? std::strerror(errno) : "no room";
    written += static_cast<std::size_t>(n);
    if (::fdatasync(file.get()) != 0) return std::strerror(errno);
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return fmt::format("{}/s, synced", bytes_text(static_cast<double>(written) / seconds));
}

}  // namespace

void look_at_disk(Facts& facts, const DiskQuestion& question) {
  const fs::path folder = nearest_existing(question.directory);
  facts.push_back({"disk", "directory", folder.string()});
  struct statfs disk {};
  if (::statfs(folder.c_str(), &disk) != 0) {
    facts.push_back(
        {"disk", "file system", std::strerror(errno), Agree::no, Verdict::problem, "Choose another run.directory"});
    return;
  }
  facts.push_back({"disk", "file system", kind_of(disk), Agree::should});
  const double free = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_bsize);
  facts.push_back({"disk", "free", bytes_text(free)});
  if (free < 256.0 * (1 << 20)) {
    facts.back().verdict = Verdict::problem;
    facts.back().remedy = "Checkpoints need room: fourmi train RECIPE --dry-run says how much";
  }
  const TrialFolder trial(folder);
  facts.push_back({"disk", "can be written", trial.error().empty() ? "yes" : trial.error()});
  if (!trial.error().empty()) {
    facts.back().verdict = Verdict::problem;
    facts.back().remedy = "Check its permissions, or choose another run.directory";
    return;
  }
  const std::string trouble = link_trouble(trial.path());
  facts.push_back({"disk", "hard links", trouble.empty() ? "yes" : trouble});
  if (!trouble.empty()) {
    facts.back().verdict = Verdict::problem;
    facts.back().remedy = "The lease of a run needs them: choose a run.directory on a local disk, NFS, Lustre or GPFS";
  }
  if (question.measure) facts.push_back({"disk", "write speed", write_speed(trial.path())});
}

}  // namespace fourmi::doctor
