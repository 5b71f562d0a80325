#include "parallel/group.h"

#include <optional>

#include "parallel/call_timer.h"

namespace fourmi {

Request& Request::operator=(Request&& o) noexcept {
  if (this != &o) {
    end();
    finish_ = std::exchange(o.finish_, nullptr);
    abandon_ = std::exchange(o.abandon_, nullptr);
    notes_ = std::move(o.notes_);
    call_ = o.call_;
    exceptions_ = o.exceptions_;
  }
  return *this;
}

Request::~Request() {
  end();
}

void Request::wait() {
  auto finish = std::exchange(finish_, nullptr);
  abandon_ = nullptr;
  if (!finish) return;
  std::optional<Waiting> waiting;
  if (notes_) waiting.emplace(*notes_, call_);
  finish();  // where it throws, the rank ends
  if (waiting) waiting->end();
}

void Request::end() noexcept {
  if (!finish_) return;
  try {
    if (std::uncaught_exceptions() > exceptions_ && abandon_) abandon_();
    wait();
  } catch (const std::exception&) {
    // Who cancelled has the reason, and every later wait of the group throws it again.
  }
}

}  // namespace fourmi
