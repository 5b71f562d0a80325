#include "framework/run/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "framework/digest/sha256.h"
#include "launch/doctor/look.h"

namespace fourmi::doctor {

namespace {

constexpr off_t whole_up_to = off_t{64} << 20, end_piece = off_t{16} << 20;

/// Adds [begin, end) to the digest; empty, or what went wrong.
std::string add_range(int fd, off_t begin, off_t end, Sha256& digest) {
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  while (begin < end) {
    const auto wanted = static_cast<std::size_t>(std::min<off_t>(end - begin, static_cast<off_t>(buffer.size())));
    const ssize_t n = ::pread(fd, buffer.data(), wanted, begin);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? std::strerror(errno) : "it became shorter while it was read";
    digest.add({buffer.data(), static_cast<std::size_t>(n)});
    begin += n;
  }
  return {};
}

constexpr const char* unreadable = "cannot be read: ";

}  // namespace

std::string digest_text(const std::filesystem::path& path) {
  // Not blocking: a FIFO without a writer would wait for ever.
  const files::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return unreadable + std::string(std::strerror(errno));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return unreadable + std::string(std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return unreadable + std::string("not a plain file");
  Sha256 digest;
  const bool whole = info.st_size <= whole_up_to;
  std::string trouble = add_range(file.get(), 0, whole ? info.st_size : end_piece, digest);
  if (!whole && trouble.empty()) trouble = add_range(file.get(), info.st_size - end_piece, info.st_size, digest);
  if (!trouble.empty()) return unreadable + trouble;
  return fmt::format("{} bytes, sha256 {}{}", info.st_size, digest.finish().substr(0, 16),
                     whole ? "" : " of both ends");
}

void look_at_file(Facts& facts, const std::filesystem::path& file) {
  facts.push_back({"file", file.string(), digest_text(file), Agree::must});
  if (!facts.back().value.starts_with(unreadable)) return;
  facts.back().verdict = Verdict::problem;
  facts.back().remedy = "Each rank reads its inputs itself: put the file where this rank's machine finds it";
}

}  // namespace fourmi::doctor
