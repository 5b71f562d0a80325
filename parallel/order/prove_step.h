// The programs of all ranks over all groups and pairs as one graph, before the first step: a deadlock is a message, not
// a timeout.
#pragma once

#include <functional>

#include "parallel/order/step_order.h"

namespace fourmi {

/// Throws Error(bug) unless the members of every group make the same calls in the same order, each message is sent once
/// and received once, and no ranks wait for one another in a circle; names what each of them waits for and what it
/// would do next. `order_of`: of each rank of `groups`; ranks of a stage may share one of them.
///
/// A collective is taken to wait for its other members where it is started. In a run it may be waited for later: that
/// is less to wait for, so what ends here ends there.
void prove_step(const OrderGroups& groups, const std::function<const StepOrder&(int rank)>& order_of);

}  // namespace fourmi
