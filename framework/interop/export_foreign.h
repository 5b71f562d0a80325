// `fourmi export MODEL HF_DIR` where MODEL is what another program made: a folder of Hugging Face's, or a GGUF file.
// It is imported into HF_DIR.tmp-import, exported from there, and that folder goes: one way in and one way out, with
// every rule of both, for 4 bytes a parameter on the disk meanwhile. What HF_DIR then holds has the bytes that
// `fourmi import` and `fourmi export` give (but for the names of places in recipe.yaml, fourmi.json and the ledger).
#pragma once

#include "framework/interop/export.h"

namespace fourmi::interop {

using FreeBytes = std::function<std::int64_t(const std::filesystem::path& folder)>;
/// Of the file system that holds the folder; none known: as many as there are numbers.
std::int64_t free_bytes(const std::filesystem::path& folder);

/// Collective. `bytes_read` and `stored_bytes` of the report are of `from`. After a kill, or where the disk was full,
/// the same call goes on with what of HF_DIR.tmp-import is whole. Throws as import_model() and export_model(), and
/// Error(environment) before it writes if there is no room for both.
ExportReport export_foreign(Group& group, const std::filesystem::path& from, const std::filesystem::path& to,
                            const ExportOptions& options = {}, const FreeBytes& free = free_bytes);

}  // namespace fourmi::interop
