#include "parallel/dispatch/device.h"

#include "kernels/exchange/host_agent.h"
#include "parallel/dispatch/methods.h"

namespace fourmi {
namespace {

std::int64_t whole_vectors(std::int64_t bytes) {
  return (bytes + 15) / 16 * 16;
}

}  // namespace

std::int64_t record_place(const DispatchOptions& o) {
  return whole_vectors(o.row_bytes);
}

exchange::Window device_window(int num_ranks, const DispatchOptions& o) {
  FOURMI_CHECK(o.num_channels >= 1 && o.num_slots >= 2, "{} channels, {} slots", o.num_channels, o.num_slots);
  FOURMI_CHECK(o.num_choices <= exchange::HostAgent::most_choices, "{} choices", o.num_choices);
  const std::int64_t block = o.block > 0 ? o.block : o.max_tokens, most_rounds = (o.max_tokens + block - 1) / block;
  const exchange::RingShape results{whole_vectors(o.row_bytes), o.num_slots, std::max(1, o.num_slots / 4)};
  exchange::RingShape rows = results;
  rows.slot_bytes = record_place(o) + whole_vectors(record_bytes(o.num_choices, o.weights));
  return exchange::Window({.num_ranks = num_ranks,
                           .num_channels = o.num_channels,
                           .most_counts = most_rounds * o.num_channels,
                           .dispatch = rows,
                           .combine = results});
}

std::unique_ptr<Dispatcher> make_device(Group& group, const DispatchOptions& options, const Tensor& window) {
  return std::make_unique<DeviceDispatcher<exchange::HostAgent>>(group, options, window, exchange::HostAgent{});
}

}  // namespace fourmi
