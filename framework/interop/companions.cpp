#include "framework/interop/companions.h"

#include <fstream>

#include "kernels/runtime/error.h"

namespace fourmi::interop {

namespace fs = std::filesystem;

namespace {

constexpr const char* names[] = {"config.json",
                                 "generation_config.json",
                                 "tokenizer.json",
                                 "tokenizer_config.json",
                                 "special_tokens_map.json",
                                 "added_tokens.json",
                                 "vocab.json",
                                 "merges.txt",
                                 "tokenizer.model",
                                 "chat_template.jinja",
                                 "chat_template.json",
                                 "README.md",
                                 "LICENSE",
                                 "LICENSE.txt",
                                 "NOTICE"};
constexpr std::uintmax_t most_bytes = std::uintmax_t{256} << 20;

}  // namespace

fs::path companions_of(const fs::path& run) {
  return run / "huggingface";
}

std::vector<std::string> copy_companions(const fs::path& from, const fs::path& to) {
  std::error_code failure;
  fs::create_directories(to, failure);
  std::vector<std::string> copied;
  for (const char* name : names) {
    if (std::error_code absent; !fs::is_regular_file(from / name, absent) || fs::file_size(from / name) > most_bytes)
      continue;
    const fs::path aside = to / (std::string(name) + ".tmp");
    if (!failure) fs::copy_file(from / name, aside, fs::copy_options::overwrite_existing, failure);
    if (!failure) fs::rename(aside, to / name, failure);
    if (failure)
      throw Error(ExitStatus::environment, (to / name).string(),
                  fmt::format("copying it failed: {}, expected room for it", failure.message()));
    copied.emplace_back(name);
  }
  return copied;
}

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
