#include "launch/report.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "framework/recipe/issue.h"

namespace fourmi {

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
