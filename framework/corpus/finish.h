// The end of tokenizing: the index, the side file, and the names.
#pragma once

#include <cstdint>
#include <filesystem>

#include "framework/corpus/tokenize.h"
#include "framework/data/indexed.h"

namespace fourmi {

/// PREFIX.idx.part from the documents' lengths in PREFIX.lengths.part (i32 each), and PREFIX.json.part.
void write_index_and_side_file(const TokenizeOptions& options, const Tokenizer& tokenizer, TokenType type,
                               const CorpusProgress& progress);

/// PREFIX.*.part take their names; .idx comes last, an older one goes first. May be called again after a kill.
void take_names(const std::filesystem::path& prefix);

}  // namespace fourmi
