// Operations on a GPU: each has the arguments and the meaning of its namesake in kernels/ops, and tensors of the device
// (tables of the host where the header says so). Work is given to the stream, and the host does not wait unless a value
// is returned.
#pragma once

#include "kernels/ops/operations.h"

namespace fourmi::cuda {

#define FOURMI_ONE(name) decltype(fourmi::name) name;
#define FOURMI_FORM(slot, name, ...) std::type_identity_t<__VA_ARGS__> name;
FOURMI_OPERATIONS(FOURMI_ONE, FOURMI_FORM)
#undef FOURMI_ONE
#undef FOURMI_FORM

/// All of them.
const Operations& operations();

}  // namespace fourmi::cuda
