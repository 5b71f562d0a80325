// A trained model opened for evaluation and generation: weights of the newest proven checkpoint of a MODEL path, and
// the recipe it was trained with. No optimizer, no gradients.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "framework/interop/foreign_model.h"
#include "framework/interop/import_plan.h"
#include "framework/model/model.h"
#include "framework/train/evaluate.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"

namespace fourmi {

class InferenceModel {
 public:
  /// Collective. MODEL is a run directory, a checkpoint, a folder of Hugging Face's or a GGUF file, of which the latter
  /// two are read straight into the weights, by every rank, and rank 0 says on standard error which it is. Throws
  /// Error(input) naming what is absent or damaged.
  InferenceModel(Group& group, const std::filesystem::path& model, const Stream& stream);
  ~InferenceModel();

  const Recipe& recipe() const { return recipe_; }
  /// Of a foreign model its own path.
  const std::filesystem::path& checkpoint() const { return checkpoint_; }
  /// Where its config.json, chat template ... are; there need be none.
  std::filesystem::path companions() const;
  std::int64_t step() const { return step_; }
  const std::vector<std::string>& messages() const { return messages_; }
  const ParameterStore& store() const { return *store_; }
  Model& model() { return *model_; }

  /// Allocates for batches of `sequences` and evaluates on `validation` (all of it).
  EvaluationResult evaluate_on(const Validation& validation, Group& group, const Stream& stream,
                               std::int64_t sequences);

 private:
  void open_checkpoint(Group& group, const std::filesystem::path& model, const Stream& stream);
  void open_foreign(Group& group, const std::filesystem::path& model, const Stream& stream);
  void make_model();
  void take_foreign_weights(const interop::ImportPlan& plan, const Stream& stream);
  void load_weights(Group& group, const struct Checkpoint& checkpoint, const Stream& stream);

  Recipe recipe_;
  std::filesystem::path checkpoint_;
  std::int64_t step_ = 0;
  std::vector<std::string> messages_;
  std::unique_ptr<interop::ForeignModel> foreign_;
  std::unique_ptr<ParameterTable> table_;
  std::unique_ptr<Arena> weights_, activations_;
  std::unique_ptr<ParameterStore> store_;
  std::unique_ptr<Model> model_;
};

}  // namespace fourmi
