// The small files of a model's folder besides its weights: kept with an import, given back by an export.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace fourmi::interop {

/// "<run>/huggingface": where an imported model's are.
std::filesystem::path companions_of(const std::filesystem::path& run);

/// Copies those of `from` that are there to `to` (made if need be): configuration, tokenizer, chat template, model
/// card, licence. Returns their names. Throws Error(environment).
std::vector<std::string> copy_companions(const std::filesystem::path& from, const std::filesystem::path& to);

/// `license:` of the model card's front matter in the folder; empty if it says none.
std::string license_of_card(const std::filesystem::path& folder);

}  // namespace fourmi::interop
