// How far a corpus has been tokenized, on the disk: PREFIX.journal, a line of JSON a commit. A commit counts if its
// whole line is there; what the other files hold beyond it is cut off. The first line says what is tokenized how, so
// that another command begins anew instead of going on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "framework/corpus/part_file.h"
#include "framework/digest/file_digest.h"

namespace fourmi {

struct CorpusCounts {
  std::int64_t documents = 0, empty_documents = 0, tokens = 0;
  std::int64_t text_bytes = 0;     ///< of the documents, decoded
  std::int64_t not_utf8 = 0;       ///< of these, bytes that are no UTF-8
  std::int64_t documents_cut = 0;  ///< documents whose text holds the end-of-document token
  bool operator==(const CorpusCounts&) const = default;
};

struct CorpusProgress {
  std::size_t input = 0;                ///< the input that is being read; all before it are finished
  std::int64_t decoded = 0;             ///< bytes of its decoded content that are done
  std::int64_t lines = 0;               ///< lines of it that are done
  CorpusCounts before;                  ///< counts at this input's beginning
  CorpusCounts counts;                  ///< of all so far
  std::vector<FileDigest> inputs;       ///< of the finished inputs
  std::vector<CorpusCounts> of_inputs;  ///< of each finished input alone
  bool complete = false;                ///< all files are written; at most their names are missing
};

class Journal {
 public:
  /// Opens PREFIX.journal, locks it and reads it; changes nothing of it yet. `header` is one line. Throws
  /// Error(environment) if another process is at work on the same prefix.
  Journal(const std::filesystem::path& prefix, std::string header);
  /// Whether there is work to go on with, done by the same command: progress(). Its files have at least the bytes that
  /// progress() tells of.
  bool found() const { return found_; }
  const CorpusProgress& progress() const { return progress_; }
  bool is_another() const { return is_another_; }  ///< what was there belongs to another command
  /// Before the first commit: throws away what does not count.
  void begin();
  void commit(const CorpusProgress& progress);
  void remove();

 private:
  std::string header_;
  PartFile file_;
  CorpusProgress progress_;
  std::int64_t good_ = 0;  ///< bytes that count
  std::size_t told_ = 0;   ///< finished inputs that the file knows of
  bool found_ = false, is_another_ = false;
};

}  // namespace fourmi
