#include "kernels/ops/operations.h"

#include "kernels/runtime/error.h"

namespace fourmi::detail {

void no_such_operation(const char* name) {
  throw Error(ExitStatus::environment, "run.device", fmt::format("operation {} is not there for this device", name),
              "Use run.device: cpu, or another recipe");
}

}  // namespace fourmi::detail
