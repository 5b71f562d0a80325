// The dispatchers, for make_dispatcher; options are checked.
#pragma once

#include "parallel/dispatch/dispatcher.h"

namespace fourmi {

/// All experts are here: nothing is copied and no call is made.
std::unique_ptr<Dispatcher> make_local(Group& group, const DispatchOptions& options);
/// One exchange over the whole group.
std::unique_ptr<Dispatcher> make_all_to_all(Group& group, const DispatchOptions& options);
/// Across nodes to the peer with the same place in its node, once a node; from there to the ranks of the node.
std::unique_ptr<Dispatcher> make_hierarchical(Group& group, const DispatchOptions& options);
/// Into rings in the memory of the ranks, which reach one another's (parallel/peer_memory).
std::unique_ptr<Dispatcher> make_device(Group& group, const DispatchOptions& options, const Tensor& window);
/// Across nodes as hierarchical, inside of a node as device.
std::unique_ptr<Dispatcher> make_rail(Group& group, const DispatchOptions& options, const Tensor& window);
/// The same by kernels, between memory of GPUs.
std::unique_ptr<Dispatcher> make_on_card(Group& group, const DispatchOptions& options, const Tensor& window);

}  // namespace fourmi
