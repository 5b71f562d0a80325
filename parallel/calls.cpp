#include "parallel/calls.h"

#include <utility>

namespace fourmi {

const char* name_of(Call call) {
  switch (call) {
    case Call::none:
      return "none";
    case Call::all_gather:
      return "all_gather";
    case Call::all_to_all:
      return "all_to_all";
    case Call::broadcast:
      return "broadcast";
    case Call::barrier:
      return "barrier";
    case Call::send:
      return "send";
    case Call::receive:
      return "receive";
    case Call::all_max:
      return "all_max";
    case Call::all_sum:
      return "all_sum";
  }
  return "?";
}

int CallNotes::add_group(std::string name) {
  const std::lock_guard lock(mutex_);
  groups_.push_back(std::move(name));
  return static_cast<int>(groups_.size()) - 1;
}

WaitingCall CallNotes::waiting() const {
  const std::uint64_t note = waiting_.load(std::memory_order_relaxed);
  WaitingCall w;
  w.call = static_cast<Call>(note >> 56);
  if (w.call == Call::none) return w;
  w.number = static_cast<std::int64_t>(note & 0xffffffffff);
  const auto index = static_cast<std::size_t>(note >> 40 & 0xffff);
  const std::lock_guard lock(mutex_);
  if (index < groups_.size()) w.group = groups_[index];
  return w;
}

}  // namespace fourmi
