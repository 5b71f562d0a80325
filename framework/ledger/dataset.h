// What is recorded of a source of data.train before it is trained on: its files with sizes and digests, and its terms.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/digest/file_digest.h"
#include "framework/ledger/facts.h"
#include "framework/recipe/policy.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// Digests of files that were read before, by path, size and time of change: kept in a side file of the run directory,
/// so that each launch need not read its data twice.
class DigestCache {
 public:
  DigestCache() = default;
  /// What text() wrote; anything else is an empty cache.
  explicit DigestCache(std::string_view text);
  /// Reads the file if it is not known as it is now. Throws Error(input).
  FileDigest digest(const std::filesystem::path& path);
  bool changed() const { return changed_; }  ///< since it was made
  std::string text() const;

 private:
  struct Known {
    std::int64_t bytes = 0, changed_ns = 0;
    std::string sha256;
  };
  std::map<std::string, Known> known_;
  bool changed_ = false;
};

/// What `fourmi tokenize` left beside token files: PREFIX.json.
struct SideFile {
  std::string license, source;
  std::vector<DataFile> files;  ///< .bin and .idx, paths as found beside it
};
/// The side file of a token file PREFIX.bin; nothing if there is none. Throws Error(input) for one that does not say
/// what it must.
std::optional<SideFile> read_side_file(const std::filesystem::path& bin);

/// A source of the recipe with the files that it stands for (several where its path is a pattern) and their side files.
struct SourceFiles {
  DataSource recipe;
  std::vector<std::filesystem::path> files;  ///< those that hold the data; of token files the .bin
};

/// Terms and whether a digest was fixed before, by recipe and side files. Throws Error(usage) where both say different
/// terms.
SourceTerms terms_of(const SourceFiles& source);

/// The entry of a source. Digests come from side files (whose sizes must be right), else from reading. Throws
/// Error(input) if they differ from the recipe's sha256, naming both.
DatasetFact describe_source(const SourceFiles& source, DigestCache& cache);

}  // namespace fourmi
