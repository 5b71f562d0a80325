// The small files of a model that another program made, besides its weights: configuration, tokenizer, chat template,
// model card, licence. A run directory keeps those of the model that it is, or that it began from, so that it needs
// nobody else's folder to speak and to be exported.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace fourmi {

/// "<run>/huggingface": where a run's are.
std::filesystem::path companions_of(const std::filesystem::path& run);

/// Copies those of `from` that are there to `to` (made if need be). Returns their names. Throws Error(environment).
std::vector<std::string> copy_companions(const std::filesystem::path& from, const std::filesystem::path& to);

/// Of a folder of such copies: what belongs to a tokenizer, its chat template included. Says whether there was any.
bool remove_tokenizer_files(const std::filesystem::path& folder);

/// Copies those of the run or checkpoint `from` to the run `to`, unless it has some, or `from` has none.
void keep_companions(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace fourmi
