#include "kernels/runtime/timeline.h"

#include <chrono>

namespace fourmi {

std::int64_t Timeline::host_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::string_view name_of(Work work) {
  static constexpr std::array<std::string_view, num_works> names = {
      "other",  "data",     "embedding", "norm",     "projections", "attention", "feed_forward",
      "router", "dispatch", "experts",   "combine",  "quantise",    "head",      "optimizer",
      "reduce", "gather",   "pipeline",  "exchange", "evaluate",    "save"};
  return names[static_cast<std::size_t>(work)];
}

void Timeline::begin_step(bool record) {
  // A step that an exception ended leaves no frames behind.
  for (; depth_ > 0; --depth_) {
    SpanObserver* told = frames_[depth_ - 1].told;
    if (told && pthread_equal(thread_, pthread_self())) told->closed();
  }
  owners_ = 0;
  thread_ = pthread_self();
  own_.fill(0);
  for (Ended& span : ended_) span.of_step_before = true;
  recording_ = record && !records_.empty();
  if (recording_) count_ = 0;
  in_step_ = true;
  open(Work::other, "step", -1, false);
}

void Timeline::end_step() {
  depth_ = 1;
  close();
  settle();
  recording_ = false;
}

bool Timeline::open(Work work, const char* name, std::int32_t layer, bool owns) {
  if (depth_ == most_depth || !pthread_equal(thread_, pthread_self())) return false;
  Frame& f = frames_[depth_];
  // The innermost owner stays the owner, so an owner inside an owner counts as the outer one.
  f.work = owners_ > 0 ? frames_[depth_ - 1].work : work;
  f.owns = owns;
  f.record = count_;
  f.layer = layer < 0 && depth_ > 0 ? frames_[depth_ - 1].layer : layer;
  owners_ += owns;
  f.begin = now();
  if (recording_)
    records_[count_++ % records_.size()] = {name, f.begin, 0, f.layer, static_cast<std::int16_t>(depth_), f.work};
  ++depth_;
  f.told = observer_;
  if (f.told) f.told->opened(f.work, name, f.layer);
  return true;
}

void Timeline::close() {
  if (depth_ == 0) return;
  const Frame& f = frames_[--depth_];
  owners_ -= f.owns;
  const std::int64_t end = now();
  if (f.told) f.told->closed();
  Ended span{.begin = static_cast<std::int32_t>(f.begin),
             .end = static_cast<std::int32_t>(end),
             .record = f.record,
             .work = f.work,
             .outer = depth_ > 0 ? frames_[depth_ - 1].work : Work::other,
             .is_step = depth_ == 0 && in_step_,
             .has_outer = depth_ > 0,
             .is_recorded = recording_};
  if (span.is_step) in_step_ = false;
  if (clock_)
    ended_.push_back(span);
  else
    count(span, f.begin, end);
}

void Timeline::count(const Ended& span, std::int64_t begin, std::int64_t end) {
  const std::int64_t took = end - begin;
  for (Nanoseconds* sums : {&own_, &total_}) {
    if (sums == &own_ && span.of_step_before) continue;
    (*sums)[static_cast<std::size_t>(span.work)] += took;
    if (span.has_outer) (*sums)[static_cast<std::size_t>(span.outer)] -= took;
  }
  if (span.is_step) step_ = took;
  if (!span.is_recorded || count_ - span.record > records_.size()) return;
  SpanRecord& record = records_[span.record % records_.size()];
  record.begin = begin, record.end = end;
}

void Timeline::settle() {
  if (depth_ > 0 || ended_.empty()) return;  // points of open spans would be forgotten
  const std::vector<std::int64_t>& times = clock_->read();
  for (const Ended& span : ended_)
    count(span, times[static_cast<std::size_t>(span.begin)], times[static_cast<std::size_t>(span.end)]);
  ended_.clear();
}

void Timeline::visit(const std::function<void(const SpanRecord&)>& visit) const {
  for (std::size_t i = num_forgotten(); i < count_; ++i) visit(records_[i % records_.size()]);
}

}  // namespace fourmi
