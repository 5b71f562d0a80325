#include "framework/harvest/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "framework/digest/sha256.h"
#include "kernels/runtime/error.h"

namespace fourmi::harvest {
namespace {

constexpr std::int64_t head_bytes = 8 + 1 + 8 + 1 + 64 + 1;
constexpr std::int64_t most_bytes = 1 << 28;  // of a text

[[noreturn]] void refuse_disk(const std::filesystem::path& path, const char* what) {
  throw Error(
      ExitStatus::environment, path.string(),
      fmt::format("{} failed: {}, a disk that takes the harvest's log was expected", what, std::strerror(errno)),
      "Make room; the same command goes on");
}

std::string check_of(const std::string& digest_before, std::string_view length) {
  return sha256(digest_before + std::string(length)).substr(0, 8);
}

/// The bytes from `offset` on; fewer where the file ends.
std::string bytes_at(int file, const std::filesystem::path& path, std::int64_t offset, std::int64_t count) {
  std::string bytes(static_cast<std::size_t>(count), '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::pread(file, bytes.data() + done, bytes.size() - done, offset + static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) refuse_disk(path, "reading");
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

std::int64_t length_of(const std::string& head) {
  std::int64_t length = -1;
  const auto [end, error] = std::from_chars(head.data(), head.data() + 8, length, 16);
  return error == std::errc() && end == head.data() + 8 ? length : -1;
}

}  // namespace

Log::Log(const std::filesystem::path& path, const Apply& apply) : path_(path) {
  const bool is_new = !std::filesystem::exists(path);
  file_ = files::Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0644));
  if (!file_) refuse_disk(path_, "opening");
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0)
    throw Error(ExitStatus::environment, path_.string(),
                "another process harvests into this folder, a free one was expected",
                "Wait for it, or name another distill.harvest.output");
  if (is_new) files::sync_folder(path_.parent_path());
  replay(apply);
}

void Log::replay(const Apply& apply) {
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) refuse_disk(path_, "looking");
  const std::int64_t all = status.st_size;
  const auto damaged = [&](const char* what) {
    return Error(ExitStatus::input, path_.string(),
                 fmt::format("{} at byte {} of {}, an undamaged log was expected", what, size_, all),
                 fmt::format("Bring the log back from a copy; `truncate -s {}` gives up what comes after", size_));
  };
  const auto zeros_from = [&](std::int64_t offset) {
    while (offset < all) {
      const std::string part = bytes_at(file_.get(), path_, offset, std::min<std::int64_t>(all - offset, 1 << 20));
      if (part.empty() || part.find_first_not_of('\0') != std::string::npos) return false;
      offset += std::ssize(part);
    }
    return true;
  };
  while (size_ < all) {
    const std::string head = bytes_at(file_.get(), path_, size_, std::min(head_bytes, all - size_));
    if (zeros_from(size_) || std::ssize(head) < head_bytes) break;
    if (head[8] != ' ' || head[17] != ' ' || head[82] != ' ' ||
        head.substr(9, 8) != check_of(digest_, head.substr(0, 8)))
      throw damaged("the head of a record that is not what was written");
    const std::int64_t length = length_of(head);
    if (length < 0 || length > most_bytes) throw damaged("a record of an impossible length");
    const std::string text =
        bytes_at(file_.get(), path_, size_ + head_bytes, std::min(length + 1, all - size_ - head_bytes));
    if (std::ssize(text) < length + 1) break;
    const std::string digest = sha256(digest_ + text.substr(0, static_cast<std::size_t>(length)));
    if (text.back() != '\n' || digest != head.substr(18, 64)) {
      // Blocks of the last write that never reached the disk are zeros.
      const std::size_t end = text.find_last_not_of('\0');
      if (size_ + head_bytes + length + 1 == all && end != text.size() - 1) break;
      throw damaged("a record that is not what was written");
    }
    apply(size_, text.substr(0, static_cast<std::size_t>(length)));
    digest_ = digest;
    size_ += head_bytes + length + 1;
  }
  cut_ = all - size_;
  if (cut_ > 0 && ::ftruncate(file_.get(), size_) != 0) refuse_disk(path_, "cutting off a torn tail");
  if (cut_ > 0 && ::fsync(file_.get()) != 0) refuse_disk(path_, "fsync");
  on_disk_ = size_;
}

std::int64_t Log::append(const std::string& text) {
  FOURMI_CHECK(text.find('\n') == std::string::npos && std::ssize(text) <= most_bytes, "a record of {} bytes",
               text.size());
  std::lock_guard lock(mutex_);
  // After a failed write the file may hold a part of a record: nothing may follow it.
  if (failed_)
    throw Error(ExitStatus::environment, path_.string(),
                "an earlier write failed, a disk that takes the log was expected");
  const std::string length = fmt::format("{:08x}", text.size()), digest = sha256(digest_ + text);
  const std::string record = fmt::format("{} {} {} {}\n", length, check_of(digest_, length), digest, text);
  for (std::size_t done = 0; done < record.size();) {
    const ssize_t n = ::write(file_.get(), record.data() + done, record.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      failed_ = true;
      refuse_disk(path_, "writing");
    }
    done += static_cast<std::size_t>(n);
  }
  const std::int64_t offset = size_;
  size_ += std::ssize(record);
  digest_ = digest;
  return offset;
}

void Log::sync() {
  std::unique_lock lock(mutex_);
  const std::int64_t goal = size_;
  while (on_disk_ < goal) {
    if (failed_)
      throw Error(ExitStatus::environment, path_.string(), "fsync failed, a disk that keeps the log was expected");
    if (syncing_) {
      synced_.wait(lock);
      continue;
    }
    syncing_ = true;
    const std::int64_t written = size_;
    lock.unlock();
    const bool done = ::fdatasync(file_.get()) == 0;
    lock.lock();
    syncing_ = false;
    ++syncs_;
    // What a failed fsync left behind is unknown; another try could say yes to it.
    done ? on_disk_ = written : failed_ = true;
    synced_.notify_all();
  }
}

std::string Log::read(std::int64_t offset) const {
  const std::string head = bytes_at(file_.get(), path_, offset, head_bytes);
  const std::int64_t length = std::ssize(head) == head_bytes ? length_of(head) : -1;
  FOURMI_CHECK(length >= 0, "no record at {}", offset);
  return bytes_at(file_.get(), path_, offset + head_bytes, length);
}

std::string Log::digest() const {
  std::lock_guard lock(mutex_);
  return digest_;
}

std::int64_t Log::size() const {
  std::lock_guard lock(mutex_);
  return size_;
}

std::int64_t Log::num_syncs() const {
  std::lock_guard lock(mutex_);
  return syncs_;
}

}  // namespace fourmi::harvest
