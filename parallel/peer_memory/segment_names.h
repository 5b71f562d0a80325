// The name that a segment of shared memory has while the ranks of a group open it.
#pragma once

#include <string>

#include "parallel/group.h"

namespace fourmi {

class SegmentName {
 public:
  /// Collective: one that no other group has.
  static SegmentName agree_on(Group& group);
  /// Removes it, whoever made the segment: if that rank is lost, another one is here.
  ~SegmentName() { remove(); }
  SegmentName(const SegmentName&) = delete;
  SegmentName& operator=(const SegmentName&) = delete;

  /// A descriptor, or below 0 with errno. Whoever makes a segment first takes away those that processes left which
  /// were killed while theirs had a name.
  int create() const;
  int open() const;
  void remove() const;

  const std::string& text() const { return name_; }
  static constexpr const char *folder = "/dev/shm", *prefix = "fourmi-window-";

 private:
  explicit SegmentName(std::string name) : name_(std::move(name)) {}
  std::string name_;
};

/// Removes this user's segments that nobody who makes one still holds and that are older than this.
void remove_stale_segments(std::int64_t seconds);

}  // namespace fourmi
