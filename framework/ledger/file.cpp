#include "framework/ledger/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernels/runtime/error.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const fs::path& path, const char* action, int error) {
  throw Error(ExitStatus::environment, path.string(),
              fmt::format("{} failed: {}, expected a ledger that can be kept", action, std::strerror(error)),
              "Check the space and the permissions of run.directory");
}

int write_all(int fd, std::string_view text, std::int64_t at) {
  while (!text.empty()) {
    const ssize_t n = ::pwrite(fd, text.data(), text.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(n));
    at += n;
  }
  return 0;
}

std::string read_all(int fd, const fs::path& path) {
  std::string text;
  struct stat facts {};
  if (::fstat(fd, &facts) != 0) fail(path, "stat", errno);
  if (!S_ISREG(facts.st_mode))
    throw Error(ExitStatus::input, path.string(), "found no regular file, expected a ledger");
  text.resize(static_cast<std::size_t>(facts.st_size));
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t n = ::pread(fd, text.data() + have, text.size() - have, static_cast<off_t>(have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path, "reading", errno);
    if (n == 0) break;
    have += static_cast<std::size_t>(n);
  }
  text.resize(have);
  return text;
}

}  // namespace

LedgerFile::LedgerFile(std::string_view text) {
  std::int64_t number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    ++number;
    if (end != std::string_view::npos) {
      judge(text.substr(0, end), number);
      text.remove_prefix(end + 1);
    } else if (parse_line(text)) {
      judge(text, number);
      needs_line_break_ = true;
      break;
    } else {
      torn_bytes_ = text.size();
      break;
    }
  }
}

void LedgerFile::judge(std::string_view line, std::int64_t number) {
  std::optional<LedgerEntry> entry = parse_line(line);
  if (!entry) {
    // The type and index as they stand, so that a person knows what was there.
    const std::size_t cut = std::min<std::size_t>(line.size(), 60);
    std::string shown(line.substr(0, cut));
    for (char& c : shown)
      if (c < ' ' || c > '~') c = '?';
    damage_.push_back(
        {number,
         fmt::format("found bytes that are no whole entry ({}{}), expected an entry with the SHA-256 that it carries",
                     shown, cut < line.size() ? "..." : "")});
    return;
  }
  if (find(entry->sha256)) {
    damage_.push_back({number, fmt::format("found {} a second time, expected each once", name_of(*entry))});
    return;
  }
  if (!entry->previous.empty()) {
    const LedgerEntry* parent = find(entry->previous);
    if (!parent)
      damage_.push_back({number, fmt::format("found {} without its parent {} before it, expected parents first",
                                             name_of(*entry), short_digest(entry->previous))});
    else if (parent->index + 1 != entry->index)
      damage_.push_back({number, fmt::format("found {} after {}, expected index {}", name_of(*entry), name_of(*parent),
                                             parent->index + 1)});
  }
  add(std::move(*entry));
}

const LedgerEntry* LedgerFile::find(std::string_view sha256) const {
  const auto found = by_name_.find(std::string(sha256));
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

void LedgerFile::add(LedgerEntry entry) {
  by_name_.emplace(entry.sha256, entries_.size());
  entries_.push_back(std::move(entry));
}

std::vector<const LedgerEntry*> LedgerFile::lineage(std::string_view head, const std::string& place) const {
  std::vector<const LedgerEntry*> chain;
  std::string_view name = head;
  while (!name.empty()) {
    const LedgerEntry* entry = find(name);
    if (!entry)
      throw Error(ExitStatus::input, place,
                  chain.empty() ? fmt::format("the head {} is missing, expected it among {} entries",
                                              short_digest(name), entries_.size())
                                : fmt::format("{} names its parent {}, which is missing, expected it before",
                                              name_of(*chain.back()), short_digest(name)),
                  "Restore ledger.jsonl from a copy");
    // A digest cannot name itself, so a circle is impossible; indices fall to 0 on the way.
    if (!chain.empty() && entry->index + 1 != chain.back()->index)
      throw Error(
          ExitStatus::input, place,
          fmt::format("{} follows {}, expected index {}", name_of(*chain.back()), name_of(*entry), entry->index + 1),
          "Restore ledger.jsonl from a copy");
    chain.push_back(entry);
    name = entry->previous;
  }
  std::reverse(chain.begin(), chain.end());
  return chain;
}

LedgerFile read_ledger(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return {};
  if (fd < 0) fail(path, "opening", errno);
  std::string text;
  try {
    text = read_all(fd, path);
  } catch (...) {
    ::close(fd);
    throw;
  }
  ::close(fd);
  return LedgerFile(text);
}

LedgerWriter::LedgerWriter(fs::path path) : path_(std::move(path)) {
  std::error_code ignored;
  const bool existed = fs::exists(path_, ignored);
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
  if (fd_ < 0) fail(path_, "opening", errno);
  try {
    const std::string text = read_all(fd_, path_);
    file_ = LedgerFile(text);
    cut_off_ = file_.torn_bytes();
    size_ = static_cast<std::int64_t>(text.size() - cut_off_);
    dirty_ = cut_off_ > 0;
    cut_back();
    if (file_.needs_line_break()) {
      if (const int error = write_all(fd_, "\n", size_)) fail(path_, "writing", error);
      ++size_;
    }
    if (::fsync(fd_) != 0) fail(path_, "fsync", errno);
    if (!existed) {
      const int folder =
          ::open(path_.parent_path().empty() ? "." : path_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (folder >= 0) {
        ::fsync(folder);
        ::close(folder);
      }
    }
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

LedgerWriter::~LedgerWriter() {
  ::close(fd_);
}

void LedgerWriter::cut_back() {
  if (!dirty_) return;
  if (::ftruncate(fd_, size_) != 0) fail(path_, "cutting off a torn line", errno);
  dirty_ = false;
}

void LedgerWriter::append(const std::vector<LedgerEntry>& entries) {
  cut_back();
  std::string text;
  std::vector<const LedgerEntry*> fresh;
  for (const LedgerEntry& e : entries) {
    if (file_.find(e.sha256)) continue;
    fresh.push_back(&e);
    text += to_line(e) + "\n";
  }
  if (text.empty()) return;
  dirty_ = true;
  if (const int error = write_all(fd_, text, size_)) {
    if (::ftruncate(fd_, size_) == 0) dirty_ = false;
    fail(path_, "writing", error);
  }
  if (::fsync(fd_) != 0) {
    const int error = errno;
    if (::ftruncate(fd_, size_) == 0) dirty_ = false;
    fail(path_, "fsync", error);
  }
  size_ += static_cast<std::int64_t>(text.size());
  dirty_ = false;
  for (const LedgerEntry* e : fresh) file_.add(*e);
}

}  // namespace fourmi
