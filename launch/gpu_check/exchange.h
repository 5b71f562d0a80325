// The exchange between ranks that kernels do by themselves (kernels/exchange/on_card.h), among ranks that are threads
// and share one GPU: its speed beside a copy's, and beside a product that runs at the same time.
#pragma once

#include "launch/gpu_check/speeds.h"

namespace fourmi::gpu_check {

struct ExchangeSizes {
  std::vector<int> ranks{2, 4, 8};
  std::int64_t tokens = 4096;  ///< of a rank
  std::int64_t columns = 7168;
  std::int64_t num_experts = 256, num_choices = 8;
  std::int64_t matrix = 8192;                ///< rows and columns of the product beside
  int num_slots = 16, multiprocessors = 32;  ///< the latter of all ranks together
  int rounds = 5, calls = 20;                ///< a round is so many calls, timed together
  CeilingSizes ceilings;
};

/// The part `exchange`: for each number of ranks dispatch (rows of e4m3 with their scales), combine (f32 into bf16),
/// and both beside a product on another stream: how long all of it takes over the longer of the two alone.
void tell_exchange(DeviceRuntime& device, const ExchangeSizes& sizes, std::int64_t from, const UseLibraries& use,
                   const Tell& tell);

}  // namespace fourmi::gpu_check
