// Held-out data, evaluated whole: every token is a target exactly once.
//
// A block of a text is a line of its own, of which the last byte is the last target. Documents of JSON lines and of
// token files are packed as in training, and their ends are targets too.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/data/batch.h"
#include "framework/data/loader.h"
#include "framework/data/token_source.h"
#include "framework/data/window_source.h"
#include "framework/data/windows.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

class Validation {
 public:
  /// What the recipe holds out: the share of each training source, or the files of data.validation. Without either it
  /// has no windows. `train` are the loaded training sources; files of data.validation are read here.
  /// Throws Error(input).
  Validation(const DataSection& data, const std::vector<LoadedSource>& train, std::uint64_t seed,
             std::int64_t vocab_size, ThreadPool* pool = nullptr);

  /// Windows of sequence_length, numbered over all documents; a document's last one may be short (padded).
  std::int64_t num_windows() const { return static_cast<std::int64_t>(windows_.size()); }
  std::int64_t num_bytes() const {
    return num_bytes_;
  }  ///< of text (of conversations: what is learned); 0 for synthetic sources
  std::uint32_t checksum() const { return checksum_; }              ///< of the sources' files
  const std::vector<std::string>& notes() const { return notes_; }  ///< worth saying
  std::int64_t num_targets() const { return num_targets_; }         ///< over all windows

  /// `count` windows spread evenly over all (all of them if count is 0 or more than there are), ascending.
  std::vector<std::int64_t> spread(std::int64_t count) const;
  /// One sequence for each window; -1 gives a sequence of padding, so that a last batch can be filled up.
  Batch batch(std::span<const std::int64_t> windows) const;

 private:
  struct Window {
    std::size_t line;
    std::int64_t index;
  };
  void add_documents(Documents documents, bool each_alone);
  void add(std::unique_ptr<TokenSource> line);
  void add(std::unique_ptr<WindowSource> line);

  WindowShape shape_;
  std::vector<std::unique_ptr<WindowSource>> lines_;
  std::vector<Window> windows_;
  std::int64_t num_bytes_ = 0, num_targets_ = 0;
  std::uint32_t checksum_ = 0;
  std::vector<std::string> notes_;
};

}  // namespace fourmi
