// The tokenizer that a recipe names, and that a run keeps.
//
// A run is tied to the bytes of its tokenizer.json: their SHA-256 is the key data.tokenizer_sha256 of the resolved
// recipe (class fixed), so a launch with another file is refused by that key, and every checkpoint carries it. The
// directory of the run keeps a copy, which is read wherever the recipe's own path leads nowhere (any more), and by all
// that only reads the run.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "framework/recipe/recipe.h"
#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

/// `name` is bytes, a tokenizer.json, or a folder that holds one; `place` is the key or argument that names it.
/// `end_of_document` is the content of an added token; empty: see BpeTokenizer. `key` is its key or option. Throws
/// Error(input) for a file that is absent or not supported, Error(usage) for an end of document that it does not have.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& name, const std::string& place,
                                          const std::string& end_of_document, const std::string& key);
/// The file that `name` leads to. Throws Error(input) at `place` if there is none.
std::filesystem::path tokenizer_json(const std::string& name, const std::string& place);

/// Makes the recipe's tokenizer definite: where it is read from, its digest, its end of a document. A
/// data.tokenizer_file that is there already is read in place of data.tokenizer. `run` is the directory of the run,
/// where its copy may be; empty: none. Throws Error(input) if there is no file of the digest data.tokenizer_sha256.
void pin_tokenizer(DataSection& data, const std::filesystem::path& run);
/// Puts a copy of the pinned tokenizer into the directory of the run, which exists.
void keep_tokenizer(const DataSection& data, const std::filesystem::path& run);

/// The recipe's tokenizer. Throws Error(usage) if a model of `model_vocab_size` rows has fewer than the tokenizer's
/// ids.
std::unique_ptr<Tokenizer> make_tokenizer(const DataSection& data, std::int64_t model_vocab_size);

}  // namespace fourmi
