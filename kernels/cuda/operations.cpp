#include "kernels/cuda/operations.h"

namespace fourmi::cuda {

const Operations& operations() {
  static constexpr Operations table = [] {
    Operations t;
#define FOURMI_ONE(name) t.name.function = cuda::name;
#define FOURMI_FORM(slot, name, ...) t.slot.function = cuda::name;
    FOURMI_OPERATIONS(FOURMI_ONE, FOURMI_FORM)
#undef FOURMI_ONE
#undef FOURMI_FORM
    return t;
  }();
  return table;
}

}  // namespace fourmi::cuda
