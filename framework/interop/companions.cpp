#include "framework/interop/companions.h"

#include <fstream>

namespace fourmi::interop {

namespace fs = std::filesystem;

std::string license_of_card(const fs::path& folder) {
  std::ifstream in(folder / "README.md");
  std::string line;
  if (!std::getline(in, line) || line.substr(0, 3) != "---") return {};
  for (int i = 0; i < 1000 && std::getline(in, line) && line.substr(0, 3) != "---"; ++i) {
    constexpr std::string_view key = "license:";
    if (!line.starts_with(key)) continue;
    std::string value = line.substr(key.size());
    const auto is_trimmed = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '"' || c == '\''; };
    while (!value.empty() && is_trimmed(value.back())) value.pop_back();
    while (!value.empty() && is_trimmed(value.front())) value.erase(0, 1);
    return value;
  }
  return {};
}

}  // namespace fourmi::interop
