#include "framework/train/traffic.h"

#include <algorithm>

namespace fourmi {

std::vector<GroupTraffic> predict_traffic(const Recipe& recipe, int num_ranks, int rank, const StepSizes& step,
                                          PromotedLayers promoted) {
  StepOrders orders(recipe, num_ranks);
  orders.promote(promoted);
  std::vector<GroupTraffic> all;
  orders.of(rank, step).visit([&](const OrderedCall& call) {
    if (call.bytes == StepOrder::routed) return;
    const char* name = name_of(call.group);
    auto at = std::find_if(all.begin(), all.end(), [&](const GroupTraffic& g) { return g.group == name; });
    if (at == all.end()) at = all.insert(all.end(), {name, orders.groups().size(rank, call.group), {}});
    Traffic& sum = at->by_call[static_cast<std::size_t>(call.call)];
    ++sum.calls;
    sum.bytes += call.bytes;
  });
  return all;
}

}  // namespace fourmi
