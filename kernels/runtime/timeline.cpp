#include "kernels/runtime/timeline.h"

#include <chrono>

namespace fourmi {

namespace {
std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
}  // namespace

std::string_view name_of(Work work) {
  static constexpr std::array<std::string_view, num_works> names = {
      "other",  "data",     "embedding", "norm",     "projections", "attention", "feed_forward",
      "router", "dispatch", "experts",   "combine",  "quantise",    "head",      "optimizer",
      "reduce", "gather",   "pipeline",  "exchange", "evaluate",    "save"};
  return names[static_cast<std::size_t>(work)];
}

void Timeline::begin_step(bool record) {
  thread_ = pthread_self();
  depth_ = owners_ = 0;  // a step that an exception ended leaves no frames behind
  own_.fill(0);
  recording_ = record && !records_.empty();
  if (recording_) count_ = 0;
  open(Work::other, "step", -1, false);
}

void Timeline::end_step() {
  depth_ = 1;
  step_ = close();
  recording_ = false;
}

bool Timeline::open(Work work, const char* name, std::int32_t layer, bool owns) {
  if (depth_ == most_depth || !pthread_equal(thread_, pthread_self())) return false;
  Frame& f = frames_[depth_];
  // The innermost owner stays the owner, so an owner inside an owner counts as the outer one.
  f.work = owners_ > 0 ? frames_[depth_ - 1].work : work;
  f.owns = owns;
  f.inside = 0;
  f.record = count_;
  f.layer = layer < 0 && depth_ > 0 ? frames_[depth_ - 1].layer : layer;
  owners_ += owns;
  f.begin = now();
  if (recording_)
    records_[count_++ % records_.size()] = {name, f.begin, 0, f.layer, static_cast<std::int16_t>(depth_), f.work};
  ++depth_;
  return true;
}

std::int64_t Timeline::close() {
  if (depth_ == 0) return 0;
  const Frame& f = frames_[--depth_];
  const std::int64_t end = now(), took = end - f.begin;
  owners_ -= f.owns;
  own_[static_cast<std::size_t>(f.work)] += took - f.inside;
  total_[static_cast<std::size_t>(f.work)] += took - f.inside;
  if (depth_ > 0) frames_[depth_ - 1].inside += took;
  if (recording_ && count_ - f.record <= records_.size()) records_[f.record % records_.size()].end = end;
  return took;
}

void Timeline::visit(const std::function<void(const SpanRecord&)>& visit) const {
  for (std::size_t i = num_forgotten(); i < count_; ++i) visit(records_[i % records_.size()]);
}

}  // namespace fourmi
