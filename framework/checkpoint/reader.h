// Whole tensors of a checkpoint by name, for commands that have no mesh: generate, eval, export, inspection.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/checkpoint/load.h"

namespace fourmi {

class CheckpointReader {
 public:
  /// MODEL of the command line (open_model): all files are proven here. `messages` of open_model are kept to be said.
  explicit CheckpointReader(const std::filesystem::path& model, Disk& disk = real_disk());

  const std::filesystem::path& folder() const { return checkpoint_.folder; }
  const std::vector<std::string>& messages() const { return messages_; }
  const Manifest& manifest() const { return checkpoint_.manifest; }
  const std::string& recipe() const { return checkpoint_.manifest.state.recipe; }

  bool has(const std::string& name) const { return checkpoint_.manifest.find(name) != nullptr; }
  /// Shape and dtype of a tensor by its name or alias ("/model/<Hugging Face name>"). Throws Error(input) if there is
  /// none.
  const TensorEntry& entry(const std::string& name) const;
  /// Fills `out`, which has the tensor's shape and dtype, and proves its digest. Throws Error(input) naming the tensor.
  void read(const std::string& name, const Tensor& out) const;

 private:
  Disk& disk_;
  Checkpoint checkpoint_;
  std::vector<std::string> messages_;
};

}  // namespace fourmi
