// What a rank sends in a step, before anything runs: the order of its calls (step_orders.h) added up by group and kind.
// The groups count what they do (parallel/traffic.h), and tests hold the two against each other to the byte.
#pragma once

#include "framework/train/step_orders.h"
#include "parallel/traffic.h"

namespace fourmi {

/// By group, without what the router decides (rows to experts). Where no number is bad, and of training alone:
/// evaluation and checkpoints send besides.
std::vector<GroupTraffic> predict_traffic(const Recipe& recipe, int num_ranks, int rank, const StepSizes& step,
                                          PromotedLayers promoted = {});

}  // namespace fourmi
