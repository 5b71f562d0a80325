#include "framework/data/made_with.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "kernels/runtime/error.h"

namespace fourmi {

void check_made_with(const LoadedSource& source, const DataSection& data, const std::string& place) {
  if (!source.tokens) return;
  const bool bytes = data.tokenizer == "bytes";
  if (!bytes && data.tokenizer_sha256.empty()) return;
  for (const IndexedTokens& file : source.tokens->files()) {
    const std::filesystem::path side = std::filesystem::path(file.bin_path()).replace_extension(".json");
    std::error_code failure;
    if (!std::filesystem::is_regular_file(side, failure)) continue;
    std::ifstream in(side, std::ios::binary);
    const nlohmann::json all = nlohmann::json::parse(in, nullptr, false);
    if (!all.is_object() || !all.contains("tokenizer")) continue;
    const nlohmann::json& made = all["tokenizer"];
    if (!made.is_object() || !made.contains("sha256")) continue;
    const nlohmann::json expected = bytes ? nlohmann::json(nullptr) : nlohmann::json(data.tokenizer_sha256);
    if (made["sha256"] == expected) continue;
    const auto name = [](const nlohmann::json& sha256) {
      return sha256.is_string() ? "of SHA-256 " + sha256.get<std::string>() : std::string("bytes");
    };
    throw Error(ExitStatus::input, place,
                fmt::format("{} was made with the tokenizer {}, as {} says; data.tokenizer, {}, was expected",
                            file.bin_path().string(), name(made["sha256"]), side.string(), name(expected)),
                "Tokenize the text again, or name the tokenizer that made the file.");
  }
}

}  // namespace fourmi
