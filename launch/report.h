// How an error reaches the user: one line, the last one that fourmi writes (docs: "Exit status" in README.md).
#pragma once

#include <exception>
#include <string>

#include "kernels/runtime/error.h"

namespace fourmi {

/// "fourmi: error: <place>: <cause>. <remedy>" without a line break inside.
std::string error_line(const Error& error);

/// Prints the errors of a recipe where there are several, then the error's line, to standard error in one piece.
void print_error(const Error& error);

}  // namespace fourmi
