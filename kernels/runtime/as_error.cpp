#include "kernels/runtime/as_error.h"

#include <filesystem>
#include <new>
#include <system_error>

namespace fourmi {

Error as_error(const std::exception& exception) {
  if (const auto* error = dynamic_cast<const Error*>(&exception)) return *error;
  if (dynamic_cast<const std::bad_alloc*>(&exception)) {
    return Error(ExitStatus::environment, "memory", "an allocation was refused, expected enough memory",
                 "fourmi train RECIPE --dry-run shows what each rank needs");
  }
  if (const auto* error = dynamic_cast<const std::filesystem::filesystem_error*>(&exception)) {
    return Error(ExitStatus::environment, error->path1().string(),
                 error->code().message() + ", expected a file or folder that can be used");
  }
  if (const auto* error = dynamic_cast<const std::system_error*>(&exception)) {
    return Error(ExitStatus::environment, "system", error->what());
  }
  return Error(ExitStatus::bug, "fourmi", exception.what(),
               "This is a bug in fourmi; please report it with the recipe and the log");
}

}  // namespace fourmi
