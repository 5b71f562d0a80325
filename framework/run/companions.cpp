#include "framework/run/companions.h"

#include <string_view>

#include "framework/run/start.h"
#include "kernels/runtime/error.h"

namespace fourmi {

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

bool remove_tokenizer_files(const fs::path& folder) {
  bool any = false;
  for (const std::string_view name : names) {
    const bool of_tokenizer = name.starts_with("token") || name.starts_with("chat_template") || name == "vocab.json" ||
                              name == "merges.txt" || name == "added_tokens.json" || name == "special_tokens_map.json";
    if (of_tokenizer) any |= fs::remove(folder / name);
  }
  return any;
}

void keep_companions(const fs::path& from, const fs::path& to) {
  const fs::path run = run_of(from);
  std::error_code ignored;
  if (run.empty() || !fs::is_directory(companions_of(run), ignored) || fs::exists(companions_of(to), ignored)) return;
  // Under another name until it is whole: what a kill leaves is no folder of companions.
  const fs::path aside = companions_of(to).string() + ".tmp";
  copy_companions(companions_of(run), aside);
  std::error_code failure;
  fs::rename(aside, companions_of(to), failure);
  if (failure)
    throw Error(ExitStatus::environment, companions_of(to).string(),
                fmt::format("renaming to it failed: {}, expected room for it", failure.message()));
}

}  // namespace fourmi
