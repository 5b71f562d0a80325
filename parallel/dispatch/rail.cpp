#include "parallel/dispatch/rail.h"

#include "kernels/exchange/host_agent.h"
#include "parallel/dispatch/methods.h"

namespace fourmi {

exchange::Window rail_window(int num_ranks, const DispatchOptions& options) {
  DispatchOptions inside = options;
  inside.num_channels = options.num_channels * (num_ranks / options.node_size);
  exchange::WindowSizes sizes = device_window(options.node_size, inside).sizes();
  ++sizes.most_counts;  // RailWords
  return exchange::Window(sizes);
}

std::unique_ptr<Dispatcher> make_rail(Group& group, const DispatchOptions& options, const Tensor& window) {
  if (group.device())
    throw Error(ExitStatus::usage, "parallel.dispatch_node_size",
                "found nodes beside the device dispatcher for ranks on GPUs, expected ranks on the CPU",
                "Choose hierarchical, which gives the same bits");
  return std::make_unique<RailDispatcher<exchange::HostAgent>>(group, options, window, exchange::HostAgent{});
}

}  // namespace fourmi
