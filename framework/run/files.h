// Small files of a run directory, written so that a reader, or a launch after a kill, sees the old content or the new
// one.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace fourmi::files {

/// The whole content; nothing if the file does not exist. Throws Error(environment) if it cannot be read.
std::optional<std::string> read(const std::filesystem::path& path);

enum class Durable { no, yes };

/// Writes aside, renames, and when durable syncs the file before and its folder after. Several threads and processes
/// may do so at once: the last rename wins and none sees half a file. Throws Error(environment); the old content then
/// stays.
void replace(const std::filesystem::path& path, std::string_view content, Durable durable = Durable::yes);

/// Removes what killed processes left aside in `folder` (the names that replace() makes, and only those).
void remove_leftovers(const std::filesystem::path& folder);

/// Makes renames and creations in `folder` last. Throws Error(environment).
void sync_folder(const std::filesystem::path& folder);

/// Creates the folder and its parents. Throws Error(environment) naming the folder and the reason.
void make_folder(const std::filesystem::path& folder);

/// Closes a file descriptor when it goes.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

}  // namespace fourmi::files
