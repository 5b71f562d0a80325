#include "launch/in_path.h"

#include <unistd.h>

#include <cstdlib>

namespace fourmi {

std::string in_path(const std::string& program, const std::string& more) {
  const char* path = std::getenv("PATH");
  std::string folders = (path != nullptr ? path : "") + std::string(":") + more + ":";
  for (std::size_t end; (end = folders.find(':')) != std::string::npos; folders.erase(0, end + 1)) {
    const std::string file = folders.substr(0, end) + "/" + program;
    if (end > 0 && ::access(file.c_str(), X_OK) == 0) return file;
  }
  return {};
}

}  // namespace fourmi
