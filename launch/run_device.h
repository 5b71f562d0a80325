// Where a launch computes: each rank on a GPU of its own, or all on the CPU (run.device).
#pragma once

#include <memory>

#include "framework/recipe/recipe.h"
#include "kernels/runtime/cuda_devices.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"
#include "parallel/launcher.h"

namespace fourmi {

class RunDevice {
 public:
  /// Collective among all ranks. A rank's GPU is the one with its number on this host. Throws Error(environment) on all
  /// ranks alike where the recipe wants GPUs and some rank has none, or `auto` finds them on some hosts only (naming
  /// rank and host); Error(usage) where the recipe asks for what GPUs cannot do.
  RunDevice(const Recipe& recipe, const LaunchInfo& launch, Group& world);

  Stream stream(ThreadPool& pool, Timeline* timeline = nullptr) const {
    return stream_ ? Stream(*stream_, pool, timeline) : Stream(pool, best_isa(), timeline);
  }
  bool is_cpu() const { return !runtime_; }
  /// "NVIDIA H200", or "cpu".
  std::string name() const { return runtime_ ? runtime_->name() : "cpu"; }

 private:
  std::unique_ptr<DeviceRuntime> runtime_;  // null: the CPU
  std::unique_ptr<DeviceStream> stream_;
};

}  // namespace fourmi
