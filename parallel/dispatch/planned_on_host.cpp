#include "parallel/dispatch/planned_on_host.h"

#include <exception>
#include <utility>

namespace fourmi {

Tensor HostTables::table(DeviceStream& stream, std::size_t which, const Tensor& like) {
  DeviceRuntime& runtime = stream.runtime();
  FOURMI_CHECK(!runtime_ || runtime_ == &runtime, "one dispatcher with two devices");
  runtime_ = &runtime;
  Memory& m = memory_.at(which);
  if (m.bytes < like.bytes()) {
    stream.synchronize();  // its tables may still be read
    runtime.release_host(std::exchange(m.data, nullptr));
    m.bytes = 0;
    m.data = runtime.allocate_host(like.bytes(), "tables of a dispatch");
    m.bytes = like.bytes();
  }
  return Tensor(m.data, like.dtype, like.shape);
}

void HostTables::release() {
  for (Memory& m : memory_)
    if (m.data) runtime_->release_host(m.data);
}

PlannedOnHost::PlannedOnHost(HostTables& tables, const Stream& stream, DispatchPlan& plan)
    : stream_(&stream), exceptions_(std::uncaught_exceptions()) {
  if (!stream.device()) return;
  const std::array lent = tables_of(plan);
  for (std::size_t i = 0; i < lent.size(); ++i) {
    of_device_[i] = *lent[i];
    if (of_device_[i]) *lent[i] = tables.table(*stream.device(), i, of_device_[i]);
  }
  plan_ = &plan;
  stream.device()->read(plan.experts_MK.data, of_device_[0].data, of_device_[0].bytes());
}

PlannedOnHost::~PlannedOnHost() noexcept(false) {
  if (!plan_) return;
  const std::array lent = tables_of(*plan_);
  const bool failed = std::uncaught_exceptions() > exceptions_;
  for (std::size_t i = 0; i < lent.size(); ++i) {
    const Tensor host = std::exchange(*lent[i], of_device_[i]);
    if (i > 0 && host && !failed) stream_->device()->write(of_device_[i].data, host.data, host.bytes());
  }
}

}  // namespace fourmi
