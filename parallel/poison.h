// Why a group can no longer be used. A subgroup looks at its parent's too.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "kernels/runtime/error.h"

namespace fourmi {

class Poison {
 public:
  explicit Poison(std::shared_ptr<const Poison> parent = nullptr) : parent_(std::move(parent)) {}

  /// The first reason stays. Returns whether this was the first.
  bool set(const std::string& reason) {
    std::lock_guard lock(mutex_);
    if (set_.load(std::memory_order_relaxed)) return false;
    reason_ = reason;
    set_.store(true, std::memory_order_release);
    return true;
  }
  bool is_set() const { return set_.load(std::memory_order_acquire) || (parent_ && parent_->is_set()); }
  /// Throws Error(rank_lost) if set.
  void check(const std::string& group) const {
    if (set_.load(std::memory_order_acquire))
      throw Error(ExitStatus::rank_lost, "group " + group, reason_,
                  "Start the run again; it goes on at its last checkpoint");
    if (parent_) parent_->check(group);
  }

 private:
  std::shared_ptr<const Poison> parent_;
  std::atomic<bool> set_{false};
  std::mutex mutex_;
  std::string reason_;  // written once, before set_
};

}  // namespace fourmi
