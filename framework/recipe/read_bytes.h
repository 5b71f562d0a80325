// The bytes of a recipe, whatever kind of file it is: a pipe that a shell made (`fourmi train <(...)`) is read, one
// that nobody writes to is not waited for.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace fourmi::recipe {

/// At most `limit` bytes into `text`. Empty: done; else what was found instead of a file that can be read.
std::string read_bytes(const std::filesystem::path& path, std::size_t limit, std::string& text);

}  // namespace fourmi::recipe
