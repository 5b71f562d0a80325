// Disks that fail: at the Nth operation, or when they are full.
#pragma once

#include <atomic>
#include <cerrno>

#include "framework/checkpoint/disk.h"

namespace fourmi::testing {

/// Fails the Nth operation (counting from 1) with `error`, and all later ones if `for_ever`: to the other ranks and to
/// the disk that is as if the process had been killed there. A write that fails leaves half of its bytes.
class FaultyDisk : public Disk {
 public:
  FaultyDisk(std::int64_t nth, int error, bool for_ever) : nth_(nth), error_(error), for_ever_(for_ever) {}
  bool fired() const { return count_ >= nth_; }
  std::int64_t count() const { return count_; }

  int open(const char* path, int flags, mode_t mode) override { return fails() ? -1 : Disk::open(path, flags, mode); }
  int close(int file) override {
    const bool bad = fails();
    const int result = Disk::close(file);
    return bad ? fail() : result;
  }
  ssize_t pwrite(int file, const void* data, std::size_t bytes, off_t offset) override {
    if (!fails()) return Disk::pwrite(file, data, bytes, offset);
    if (count_ == nth_) (void)!::pwrite(file, data, bytes / 2, offset);
    return fail();
  }
  ssize_t pread(int file, void* data, std::size_t bytes, off_t offset) override {
    return fails() ? -1 : Disk::pread(file, data, bytes, offset);
  }
  int fsync(int file) override { return fails() ? -1 : Disk::fsync(file); }
  int rename(const char* from, const char* to) override { return fails() ? -1 : Disk::rename(from, to); }
  int mkdir(const char* path, mode_t mode) override { return fails() ? -1 : Disk::mkdir(path, mode); }
  int symlink(const char* target, const char* path) override { return fails() ? -1 : Disk::symlink(target, path); }
  int unlink(const char* path) override { return fails() ? -1 : Disk::unlink(path); }
  int rmdir(const char* path) override { return fails() ? -1 : Disk::rmdir(path); }

 private:
  bool fails() {
    const std::int64_t n = ++count_;
    if (n != nth_ && !(for_ever_ && n > nth_)) return false;
    fail();
    return true;
  }
  int fail() const {
    errno = error_;
    return -1;
  }
  const std::int64_t nth_;
  const int error_;
  const bool for_ever_;
  std::atomic<std::int64_t> count_ = 0;
};

/// A disk with room for `bytes` more; it writes what fits, then says so, as a full disk does.
class SmallDisk : public Disk {
 public:
  explicit SmallDisk(std::int64_t bytes) : left_(bytes) {}
  void refill(std::int64_t bytes) { left_ = bytes; }
  ssize_t pwrite(int file, const void* data, std::size_t bytes, off_t offset) override {
    const std::int64_t want = static_cast<std::int64_t>(bytes), before = left_.fetch_sub(want);
    if (before >= want) return Disk::pwrite(file, data, bytes, offset);
    left_ = 0;
    if (before > 0) return Disk::pwrite(file, data, static_cast<std::size_t>(before), offset);
    errno = ENOSPC;
    return -1;
  }

 private:
  std::atomic<std::int64_t> left_;
};

/// Interrupts every other call and never writes or reads more than 7 bytes at once: slow, but not failing.
class SlowDisk : public Disk {
 public:
  ssize_t pwrite(int file, const void* data, std::size_t bytes, off_t offset) override {
    return interrupted() ? -1 : Disk::pwrite(file, data, std::min<std::size_t>(bytes, 7), offset);
  }
  ssize_t pread(int file, void* data, std::size_t bytes, off_t offset) override {
    return interrupted() ? -1 : Disk::pread(file, data, std::min<std::size_t>(bytes, 7), offset);
  }

 private:
  bool interrupted() {
    errno = EINTR;
    return ++calls_ % 2 == 0;
  }
  std::atomic<std::int64_t> calls_ = 0;
};

/// Says that everything was written and loses one bit of it: what checked return values cannot find.
class LyingDisk : public Disk {
 public:
  explicit LyingDisk(std::int64_t nth) : nth_(nth) {}
  bool lied() const { return count_ >= nth_; }
  ssize_t pwrite(int file, const void* data, std::size_t bytes, off_t offset) override {
    if (++count_ != nth_) return Disk::pwrite(file, data, bytes, offset);
    std::string changed(static_cast<const char*>(data), bytes);
    changed[bytes / 2] = static_cast<char>(changed[bytes / 2] ^ 4);
    return Disk::pwrite(file, changed.data(), bytes, offset);
  }

 private:
  const std::int64_t nth_;
  std::atomic<std::int64_t> count_ = 0;
};

}  // namespace fourmi::testing
