// Where programs are found, as a shell finds them.
#pragma once

#include <string>

namespace fourmi {

/// The first file of this name in PATH, then in `more` (folders, joined by ':'), that may be run; empty: none.
std::string in_path(const std::string& program, const std::string& more = {});

}  // namespace fourmi
