// What an export writes: files of tensors, each with what it is made from. A pure function of the model.
#pragma once

#include <string>
#include <vector>

#include "framework/checkpoint/manifest.h"
#include "framework/interop/safetensors_header.h"
#include "framework/model/parameters.h"
#include "framework/recipe/recipe.h"

namespace fourmi::interop {

/// Of a file of weights at most, unless one tensor has more.
inline constexpr std::int64_t most_file_bytes = 5'000'000'000;

using ExportType = ExportFormat;
std::string_view name_of(ExportType type);
/// What weights are written in unless another type is asked for; `stored` is what they were imported from
/// (ForeignModel::dtype()), empty: they were not.
ExportType type_after(std::string_view stored);

struct ExportedTensor {
  StoredTensor stored;
  const Parameter* parameter = nullptr;
  bool is_scale = false;    ///< of the parameter's FP8 blocks; written together with them, in the same file
  bool has_blocks = false;  ///< FP8 elements, whose scales follow
};

struct ExportedFile {
  std::string name;
  std::vector<ExportedTensor> tensors;  ///< laid out
  std::string header;
  std::int64_t data_bytes() const { return tensors.empty() ? 0 : tensors.back().stored.end; }
};

/// In FP8 are the linear maps, but for the projection of multi-token prediction, as DeepSeek-V3 is released; of a model
/// whose imported scales the checkpoint keeps, those that have them. The router's correction bias is FP32.
/// `file_bytes`: no file has more, unless one tensor does.
std::vector<ExportedFile> plan_export(const ModelSection& model, const ParameterTable& table,
                                      const Manifest& checkpoint, ExportType type, std::int64_t file_bytes);

/// Bytes of weights that an export of such a model has.
std::int64_t export_bytes(const ModelSection& model, ExportType type);

/// model.safetensors.index.json of several files.
std::string index_text(const std::vector<ExportedFile>& files);

}  // namespace fourmi::interop
