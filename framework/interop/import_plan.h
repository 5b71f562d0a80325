// What an import writes: the files of a checkpoint, each with tensors whose bytes are made from the stored model's
// piece by piece. A pure function of the files, so that every rank and every later try has the same.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/checkpoint/streamed_file.h"
#include "framework/interop/fp8_blocks.h"
#include "framework/interop/weight_map.h"

namespace fourmi::interop {

/// The name of a parameter's master in a checkpoint, and of the scales that it was imported with.
std::string master_name(const Parameter& p);
std::string kept_scales_name(const std::string& parameter);

struct PlannedFile {
  std::vector<StreamedTensor> tensors;
  std::vector<const Weight*> weights;  ///< where each comes from
  std::vector<bool> is_scale;          ///< it is the weight's scales
};

class ImportPlan {
 public:
  /// Files of about `file_bytes`, at least one tensor each.
  ImportPlan(const ModelSection& model, const WeightSource& stored, std::int64_t file_bytes);

  const ParameterTable& table() const { return table_; }
  const WeightMap& map() const { return map_; }
  const std::vector<PlannedFile>& files() const { return files_; }
  bool has_fp8() const { return has_fp8_; }
  /// Two tries of one import have the same: names, sizes and times of the stored files, and the plan.
  const std::string& fingerprint() const { return fingerprint_; }

  /// The source of one of the files. It holds the scales of that file's weights.
  TensorSource source(std::size_t file) const;

 private:
  void add(const Weight& w, bool scale, std::int64_t file_bytes);

  ParameterTable table_;
  const WeightSource& stored_;
  WeightMap map_;
  std::vector<PlannedFile> files_;
  bool has_fp8_ = false;
  std::string fingerprint_;
};

/// All scales of an FP8 weight, checked.
BlockScales read_scales(const WeightSource& stored, const Weight& w);

}  // namespace fourmi::interop
