// manifest.json: what a checkpoint holds, where, and how it is proven (docs/checkpoint.md).
//
// Three layers of proof. The manifest carries the SHA-256 of its own bytes; it lists size and SHA-256 of every file, so
// that a flip anywhere is found before anything is parsed; and it has the digest of every tensor, which needs no cut
// and no order, so that any layout proves its live state against it. The root is the SHA-256 of those: equal states,
// equal roots.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/checkpoint/disk.h"
#include "framework/checkpoint/rectangle.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// What decides the rest of a run beside the tensors, and what is good to know.
struct CheckpointState {
  std::int64_t step = 0;        ///< the last step that is in the tensors
  std::int64_t tokens = 0;      ///< input positions so far, all launches
  std::string training = "{}";  ///< JSON: data position, guard state ...; enters the root, equal on all ranks
  std::string recipe;           ///< the resolved recipe (YAML)
  std::string info = "{}";      ///< JSON: layout, hosts, commit ...; does not enter the root
  std::string
      ledger_head;  ///< SHA-256 of the ledger's entry that tells of this checkpoint; empty: none. Not in the root
};

/// A part of a tensor, contiguous: bytes from `offset` of a file.
struct BoxEntry {
  std::int64_t file = 0;  ///< index into Manifest::files
  std::int64_t offset = 0;
  Rectangle part;
  uint128 digest = 0;
};

/// The order of a tensor's boxes: by first row, then by first column.
inline bool before(const BoxEntry& a, const BoxEntry& b) {
  return a.part.first_row != b.part.first_row ? a.part.first_row < b.part.first_row
                                              : a.part.first_column < b.part.first_column;
}

struct TensorEntry {
  std::string name, alias;
  DType dtype = DType::f32;
  Shape shape;
  uint128 digest = 0;
  std::vector<BoxEntry> boxes;  ///< in order (before), without gap or overlap

  std::int64_t row_bytes() const;                      ///< of a row of the whole tensor
  std::int64_t bytes_of(const Rectangle& part) const;  ///< of a part's elements
};

struct FileEntry {
  std::string name;
  std::int64_t bytes = 0;
  std::string sha256;
};

struct Manifest {
  std::string root;
  CheckpointState state;
  std::vector<FileEntry> files;
  std::vector<TensorEntry> tensors;  ///< ascending names

  /// The tensor of this name or alias; null if there is none.
  const TensorEntry* find(std::string_view name) const;
  std::int64_t bytes() const;  ///< of all files
};

/// "rank-00003.h5".
std::string rank_file_name(int rank);
/// The types that a checkpoint can hold.
bool can_hold(DType dtype);
std::optional<DType> parse_dtype(std::string_view name);
/// A dataset path: "/part/part..." of visible ASCII, no part empty, "." or "..".
bool is_dataset_name(std::string_view name);
/// Bytes of a tensor; nothing if they do not fit into 63 bits or a dim is negative.
std::optional<std::int64_t> checked_bytes(const Shape& shape, DType dtype);
/// What is wrong with the boxes of a tensor (gap, overlap, out of range, out of order); empty if they tile it.
std::string tiling_problem(const TensorEntry& tensor);
/// SHA-256 over the lines "name dtype shape digest" of all tensors by name, the training state being one more tensor:
/// "/state", the bytes of its JSON.
std::string root_digest(const std::vector<TensorEntry>& tensors, const CheckpointState& state);

std::string to_text(const Manifest& manifest);
/// Proves the text's own digest, then everything that can be proven without the files. Throws DamageError(place), or
/// Error(input) if a newer fourmi wrote it.
Manifest parse_manifest(const std::string& text, const std::string& place);

}  // namespace fourmi
