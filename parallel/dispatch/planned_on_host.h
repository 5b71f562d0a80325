// A plan is worked out by the host. With a device the plan's tables lie there: while the host works on them it has
// copies of its own, in memory that the stream copies from without the host's waiting.
#pragma once

#include <array>
#include <memory>

#include "kernels/runtime/stream.h"
#include "parallel/dispatch/plan.h"

namespace fourmi {

/// The host's memory for a dispatcher's plans, one at a time. Grows at first and then stays.
class HostTables {
 public:
  HostTables() = default;
  ~HostTables() { release(); }
  HostTables(const HostTables&) = delete;
  HostTables& operator=(const HostTables&) = delete;

  static constexpr std::size_t count = 5;
  /// Table `which` as large as `like`, with undefined contents. Nothing of its old contents is on the way.
  Tensor table(DeviceStream& stream, std::size_t which, const Tensor& like);

 private:
  void release();
  struct Memory {
    void* data = nullptr;
    std::int64_t bytes = 0;
  };
  DeviceRuntime* runtime_ = nullptr;
  std::array<Memory, count> memory_;
};

/// For as long as it lives the tables of the plan (choices, routes) are the host's. At its end those that the host
/// wrote are on their way to the device, behind the stream's work. Nothing where all memory is the host's.
class PlannedOnHost {
 public:
  /// The host waits for the choices: once a plan.
  PlannedOnHost(HostTables& tables, const Stream& stream, DispatchPlan& plan);
  ~PlannedOnHost() noexcept(false);
  PlannedOnHost(const PlannedOnHost&) = delete;
  PlannedOnHost& operator=(const PlannedOnHost&) = delete;

 private:
  static std::array<Tensor*, HostTables::count> tables_of(DispatchPlan& plan) {
    return {&plan.experts_MK, &plan.tokens.rank_RC, &plan.tokens.row_RC, &plan.forwards.rank_RC, &plan.forwards.row_RC};
  }
  const Stream* stream_;
  DispatchPlan* plan_ = nullptr;  // null: nothing was lent
  std::array<Tensor, HostTables::count> of_device_;
  int exceptions_;
};

}  // namespace fourmi
