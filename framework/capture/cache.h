// A cache of a teacher's distributions on the disk: a folder that any student may learn from, whatever its batch size,
// order and layout.
//
//   capture.json            what it was made of (header.h), its parts with size and SHA-256, and a digest of itself
//   part-000-000000.h5      of source 0, in HDF5: entries i32 [rows, n] (row_format.h, 32 bits as they are),
//                           rest f32 [rows]; and of each window first_token i64, rows i32, crc32 i32
//   part-000-000000.json    beside a part that is whole, until capture.json names it: what a capture goes on from
//
// A row is a position: it says what follows. Its key is the document's token, counted over all documents of the source
// (Loader::first_token): rows of a window are those of its tokens, in order. A window's rows are proven by its CRC-32
// each time they are read, a part by its SHA-256 when somebody asks (fourmi ledger verify --data).
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/capture/header.h"

namespace fourmi {

struct CachePart {
  std::int64_t source = 0;  ///< of header.sources
  std::int64_t windows = 0, rows = 0, bytes = 0;
  std::string file, sha256;
  std::array<std::int64_t, 5> offsets{};  ///< of entries, rest, first_token, rows, crc32
  std::uint32_t table_checksum = 0;       ///< CRC-32 of the last three
};

struct CacheManifest {
  CaptureHeader header;
  std::vector<CachePart> parts;

  std::int64_t rows() const;
  std::int64_t bytes() const;
  /// SHA-256 over header and parts: names the cache, wherever it lies.
  std::string root() const;
};

std::filesystem::path cache_manifest_path(const std::filesystem::path& folder);
/// Throws Error(input) naming the file: absent, damaged.
CacheManifest read_cache_manifest(const std::filesystem::path& folder);
/// Reads all of it. Throws Error(input) naming the file that is absent or damaged, or both roots where it is another
/// one than `root`.
void prove_cache(const std::filesystem::path& folder, const std::string& root);
void write_cache_manifest(const std::filesystem::path& folder, const CacheManifest& manifest);
std::string to_json(const CachePart& part);
CachePart cache_part_from_json(const std::string& text, const std::string& place);

/// Windows of one source with their rows, as they are written or were read.
struct CachedWindows {
  std::vector<std::int64_t> first_token;
  std::vector<std::int32_t> rows;
  std::vector<std::uint32_t> entries;  ///< [all rows, n]
  std::vector<float> rest;             ///< [all rows]
};

/// Writes a part aside, forces it to the disk and renames it. Throws Error(environment).
CachePart write_cache_part(const std::filesystem::path& folder, const CacheFormat& format, std::int64_t source,
                           std::int64_t number, const CachedWindows& windows);

/// Reads a cache. The tables of all windows are in memory, rows on the disk.
class CacheReader {
 public:
  /// Throws Error(input) naming the file that is absent, of another size or damaged.
  explicit CacheReader(const std::filesystem::path& folder);
  CacheReader(const std::filesystem::path& folder, CacheManifest manifest);

  const CacheManifest& manifest() const { return manifest_; }
  bool has(std::int64_t source, std::int64_t first_token) const;
  /// The window's rows, `entries` of [rows, n] and `rest` of [rows]. Throws Error(input) naming the part: no such
  /// window, another number of rows, damaged.
  void read(std::int64_t source, std::int64_t first_token, std::span<std::uint32_t> entries,
            std::span<float> rest) const;
  /// First tokens of a source's windows, ascending.
  std::vector<std::int64_t> windows_of(std::int64_t source) const;

 private:
  struct Window {
    std::int64_t first_token, first_row;
    std::int32_t rows, part;
    std::uint32_t checksum;
  };
  struct File;
  File open(const CachePart& part) const;
  void read_tables(std::size_t part);
  const Window* find(std::int64_t source, std::int64_t first_token) const;

  std::filesystem::path folder_;
  CacheManifest manifest_;
  std::vector<std::vector<Window>> windows_;  // by source, ascending
};

}  // namespace fourmi
