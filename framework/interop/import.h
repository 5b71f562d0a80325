// `fourmi import HF_DIR|GGUF OUT`: a folder of Hugging Face's or a GGUF file becomes a run directory with one
// checkpoint, of step 0, whose weights (FP32 masters) are exactly the stored ones. Tensor by tensor, in pieces: memory
// does not grow with the model.
//
// OUT/checkpoints/step-00000000.tmp-import/ is filled file by file; each that is whole has a note beside it, so that
// the same command goes on where it was ended. When all are there: manifest, rename. Beside it recipe, tokenizer,
// ledger, and in OUT/huggingface/ what an export gives back (config.json, chat template ...).
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "framework/checkpoint/disk.h"
#include "framework/interop/foreign_model.h"
#include "parallel/group.h"

namespace fourmi::interop {

struct ImportOptions {
  std::int64_t file_bytes = std::int64_t{4} << 30;  ///< of each file of the checkpoint, about
  Disk* disk = &real_disk();
  std::function<void(const std::string&)> say = [](const std::string&) {};  ///< called on rank 0
  /// By what name recipe and ledger know OUT, if it does not stay where it is made; empty: OUT's own.
  std::filesystem::path called{};
};

struct ImportReport {
  ForeignKind kind = ForeignKind::hugging_face;
  std::filesystem::path checkpoint;
  std::string root, model_type, dtype;  ///< dtype: ForeignModel::dtype(); export has not all
  std::int64_t parameters = 0;          ///< elements
  std::int64_t stored_bytes = 0, bytes_read = 0;
  std::int64_t files = 0, files_kept = 0;  ///< kept from an earlier try
  bool was_there = false;                  ///< OUT was this import already: nothing was done
  std::vector<std::string> warnings;
};

/// A folder that fourmi exported keeps its lineage, if its weights are those that were exported; else Error(input).
/// Collective; each rank writes every n-th file, and reads what belongs in it. Rank 0's report is whole. Throws
/// Error(input) naming file and tensors, RecipeErrors for keys of config.json that are not built, Error(usage) if OUT
/// holds something else.
ImportReport import_model(Group& group, const std::filesystem::path& from, const std::filesystem::path& to,
                          const ImportOptions& options = {});

}  // namespace fourmi::interop
