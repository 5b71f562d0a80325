// The local halves of proving a checkpoint.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/checkpoint/disk.h"
#include "framework/checkpoint/manifest.h"

namespace fourmi {

/// Reads and proves a manifest, and that all files are there with the sizes it gives.
Manifest read_manifest(Disk& disk, const std::filesystem::path& folder);
std::string read_manifest_text(Disk& disk, const std::filesystem::path& folder);
void prove_sizes(Disk& disk, const std::filesystem::path& folder, const Manifest& manifest);

/// Proves a file's SHA-256; if it differs, says which tensor's bytes do (or that none does: the file's own structure).
void prove_file(Disk& disk, const std::filesystem::path& folder, const Manifest& manifest, std::size_t file);

/// Beyond what loading needs: digest of every box from the file's bytes, and HDF5's view of the file. Throws
/// DamageError.
void prove_contents(Disk& disk, const std::filesystem::path& folder, const Manifest& manifest, std::size_t file);

/// Entries of the folder that the manifest does not list.
std::vector<std::string> extra_entries(const std::filesystem::path& folder, const Manifest& manifest);

}  // namespace fourmi
