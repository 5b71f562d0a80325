// A corpus as token files: texts and JSON lines to PREFIX.bin, PREFIX.idx (framework/data/indexed.h) and PREFIX.json,
// which says what they are made of.
//
// Memory is bounded by the longest document and a few megabytes a thread. Nothing of the names of the result exists
// until all of it is on the disk. What lies in PREFIX.*.part and PREFIX.journal lets the same command go on after any
// end of the process; the result has the same bytes as without, and with any number of threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "framework/corpus/journal.h"
#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

struct TokenizeOptions {
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path prefix;
  std::string format = "auto";   ///< text (a file is a document), jsonl (a line is one), auto: by the file's name
  std::string field = "text";    ///< of a JSON line
  std::string license, source;   ///< for PREFIX.json; empty: not said
  std::string tokenizer_sha256;  ///< of tokenizer.json; empty: bytes
  bool end_documents = true;     ///< each document ends with the end-of-document token
  bool overwrite = false;        ///< of files that have the result's names
  int threads = 1;
  std::int64_t block_bytes = 1 << 20;    ///< of text that a thread takes at once
  std::int64_t commit_bytes = 64 << 20;  ///< of decoded input after which an end of the process loses nothing
  /// Called now and then on the calling thread: bytes of the inputs read, as they lie on the disk, and of all.
  std::function<void(std::int64_t, std::int64_t)> progress{};
};

struct TokenizeResult {
  CorpusCounts counts;
  std::int64_t text_bytes_here = 0;  ///< encoded by this process; the rest by those before it
  bool resumed = false, begun_anew = false;
};

/// Throws Error(input) for what cannot be read, naming file (and line), Error(environment) for a disk that is full or a
/// prefix in use, Error(usage) for a result that exists.
TokenizeResult tokenize_corpus(const Tokenizer& tokenizer, const TokenizeOptions& options);

}  // namespace fourmi
