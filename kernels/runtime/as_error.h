// What the standard library throws, in fourmi's words.
#pragma once

#include <exception>

#include "kernels/runtime/error.h"

namespace fourmi {

/// Any exception as an Error: what the system refused is the environment's fault, what nobody expected is a bug.
Error as_error(const std::exception& exception);

}  // namespace fourmi
