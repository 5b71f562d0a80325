// fourmi.json in an exported folder: what it was made from. By it a run knows its own exports again, those that are
// missing and those that an older state left; what no mark says is nobody's to replace.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace fourmi::interop {

struct ExportMark {
  std::string run;   ///< run_identity() of the run that it was made from; empty: a checkpoint that stands alone
  std::string root;  ///< root digest of the checkpoint
  std::string dtype;
  std::int64_t step = 0, tokens = 0;
  std::string ledger_head{};  ///< the entry `export` of the folder's own ledger (export_ledger.h)
};

/// A run directory's name that says nothing of where it lies: SHA-256 of its absolute path.
std::string run_identity(const std::filesystem::path& run_directory);

std::string to_json(const ExportMark& mark);

/// What lies at a place where the export of `wanted` is to be: nothing (or an empty folder), that export, another one
/// of the same run, or what is not ours.
enum class Found { nothing, same, earlier, other };
Found look_for_export(const std::filesystem::path& at, const ExportMark& wanted);

/// Throws Error(usage) for what may not make room: all but nothing and, with `replace_own`, an export of the same run.
void refuse_others(const std::filesystem::path& at, const ExportMark& wanted, bool replace_own);

inline constexpr const char* mark_name = "fourmi.json";

}  // namespace fourmi::interop
