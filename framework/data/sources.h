// The recipe's sources, opened and read; and their documents as ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "framework/data/chat_lines.h"
#include "framework/data/held_out.h"
#include "framework/data/text.h"
#include "framework/data/token_files.h"
#include "framework/data/token_store.h"
#include "framework/recipe/recipe.h"
#include "framework/tokenizer/tokenizer.h"
#include "kernels/runtime/thread_pool.h"

namespace fourmi {

/// Opens every file that the sources of data.train and data.validation name and reads nothing but the heads of token
/// files: what is absent or unreadable is known before anything is loaded. Throws Error(input) naming the file.
void open_inputs(const DataSection& data);

/// A source of the recipe, read. Shared by Loader and Validation. Neither text nor token files nor conversations:
/// synthetic.
struct LoadedSource {
  DataSource recipe;
  std::shared_ptr<const Text> text = {};
  std::shared_ptr<const TokenFiles> tokens = {};
  std::shared_ptr<const ChatLines> chat = {};  ///< of formats messages and prompt-completion

  bool synthetic() const { return !text && !tokens && !chat; }
  /// With the size, tells whether a resumed run still reads the same. Of token files: after documents_of.
  std::int64_t num_bytes() const;
  std::uint32_t checksum() const;
};

/// Reads all texts and opens all token files. `place` is the recipe's key, e.g. "data.train". Throws Error(input)
/// naming source and file.
std::vector<LoadedSource> load_sources(const std::vector<DataSource>& sources, const std::string& place);

/// "jsonl", "bin" or "text", as a file's name tells.
std::string format_of_name(const std::string& path);

/// Documents as ids: pieces of a store.
struct Documents {
  std::shared_ptr<const TokenStore> store;
  std::vector<TextPiece> pieces;
  std::int64_t num_bytes = 0;  ///< of the text behind the pieces; of token files decoded, and only of what is held out
  std::string note;            ///< worth saying: how long it took to encode the text; empty: nothing
};

enum class Side { train, held_out };

/// One side of a source of texts or token files. With `share` 0 all is on the side `train`. Text becomes ids here, and
/// ids of token files are checked. `place` is the source's, e.g. "data.train.web"; with a pool its threads share the
/// encoding, which changes no id. `opening`, if it is a token, is none inside of a document, as the end of a document
/// is none: that is where documents are cut. Throws Error(input).
Documents documents_of(const LoadedSource& source, Side side, double share, const Tokenizer& tokenizer,
                       std::int64_t vocab_size, const std::string& place, ThreadPool* pool = nullptr,
                       std::int32_t opening = -1);

}  // namespace fourmi
