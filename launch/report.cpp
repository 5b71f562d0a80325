#include "launch/report.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <new>
#include <system_error>

#include "framework/recipe/issue.h"

namespace fourmi {

Error to_error(const std::exception& exception) {
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

std::string error_line(const Error& error) {
  std::string line = fmt::format("fourmi: error: {}", error.what());
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

void print_error(const Error& error) {
  std::string text;
  if (const auto* recipe = dynamic_cast<const RecipeErrors*>(&error)) {
    for (const std::string& line : recipe->lines()) text += line + "\n";
  }
  text += error_line(error) + "\n";
  if (::isatty(STDERR_FILENO) == 1) text.insert(0, "\r\033[K");  // a progress bar may stand there
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace fourmi
