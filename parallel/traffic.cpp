#include "parallel/traffic.h"

#include "kernels/runtime/error.h"
#include "parallel/groups.h"

namespace fourmi {

Traffic GroupTraffic::total() const {
  Traffic sum;
  for (const Traffic& t : by_call) sum.calls += t.calls, sum.bytes += t.bytes;
  return sum;
}

TrafficMeter::TrafficMeter(const RankGroups& groups) : groups_(groups.every()) {
  std::erase_if(groups_, [](const Group* group) { return group->size() == 1; });
  before_.resize(groups_.size());
  for (const Group* group : groups_)
    step_.push_back({group == &groups.world() ? RankGroups::world_name : group->name(), group->size(), {}});
}

void TrafficMeter::begin_step() {
  for (std::size_t i = 0; i < groups_.size(); ++i) before_[i] = groups_[i]->traffic();
}

void TrafficMeter::end_step() {
  for (std::size_t i = 0; i < groups_.size(); ++i)
    for (std::size_t c = 0; c < num_calls; ++c) {
      const Traffic &now = groups_[i]->traffic()[c], &before = before_[i][c];
      step_[i].by_call[c] = {now.calls - before.calls, now.bytes - before.bytes};
    }
}

std::string to_text(const std::vector<GroupTraffic>& traffic) {
  std::string text;
  for (const GroupTraffic& g : traffic)
    for (std::size_t c = 0; c < num_calls; ++c)
      if (const Traffic& t = g.by_call[c]; t.calls > 0 || t.bytes > 0)
        text += fmt::format("  {:<15}{:>4} ranks  {:<11}{:>8} calls {:>14} bytes\n", g.group, g.size,
                            name_of(static_cast<Call>(c)), t.calls, t.bytes);
  return text;
}

}  // namespace fourmi
