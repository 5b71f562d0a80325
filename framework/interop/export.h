// `fourmi export MODEL HF_DIR`: a checkpoint becomes a folder that Hugging Face's libraries load. Tensor by tensor, in
// pieces: memory does not grow with the model. All is written aside, in HF_DIR.tmp-export, and renamed at the end; what
// it replaces steps aside to HF_DIR.old-export first, so a kill leaves the old folder, none, or the new one.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "framework/checkpoint/disk.h"
#include "framework/interop/export_plan.h"
#include "parallel/group.h"

namespace fourmi::interop {

struct ExportOptions {
  std::optional<ExportType> type{};  ///< none: as it was imported, else bf16
  std::int64_t file_bytes = most_file_bytes;
  Disk* disk = &real_disk();
  std::string name{};        ///< that obligations of teachers are held against; empty: HF_DIR's
  bool replace_own = false;  ///< an earlier export of the same run makes room
  std::function<void(const std::string&)> say = [](const std::string&) {};  ///< called on rank 0
};

struct ExportReport {
  std::filesystem::path folder, checkpoint;  ///< checkpoint: or the other program's model (export_foreign.h)
  std::string dtype;
  std::int64_t tensors = 0, files = 0, bytes = 0;  ///< of weights
  std::int64_t stored_bytes = 0, bytes_read = 0;   ///< of the checkpoint's tensors that they are made from
  std::vector<std::string> warnings;
};

/// Collective; each rank writes every n-th file. Throws Error(input) for a MODEL that is absent or damaged,
/// Error(usage) if HF_DIR is there already, unless it is to be replaced and an export of the same run (export_mark.h),
/// or if it may not be called so (framework/ledger/policy.h).
ExportReport export_model(Group& group, const std::filesystem::path& model, const std::filesystem::path& to,
                          const ExportOptions& options = {});

}  // namespace fourmi::interop
