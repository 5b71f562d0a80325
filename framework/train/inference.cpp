#include "framework/train/inference.h"

#include <numeric>

#include "framework/checkpoint/load.h"
#include "framework/recipe/read.h"
#include "framework/run/start.h"
#include "framework/train/batch_tensors.h"
#include "framework/train/inputs.h"
#include "kernels/ops/reduce.h"

namespace fourmi {

namespace {
/// Runs `build` with a measuring arena, then with one of the size that it took.
template <class Build>
std::unique_ptr<Arena> measured(const std::string& name, Build&& build) {
  Arena measure({name, Arena::Mode::measure}, 0);
  build(measure);
  auto arena = std::make_unique<Arena>(Arena::Options{name}, measure.peak());
  build(*arena);
  return arena;
}
}  // namespace

InferenceModel::InferenceModel(Group& group, const std::filesystem::path& model, const Stream& stream) {
  Choice choice = open_model(group, model);
  FOURMI_CHECK(choice.checkpoint.has_value());
  messages_ = choice.messages;
  checkpoint_ = choice.checkpoint->folder;
  step_ = choice.checkpoint->manifest.state.step;
  recipe_ = parse_recipe(choice.checkpoint->manifest.state.recipe, (checkpoint_ / "manifest.json").string());
  agree_tokenizer(recipe_.data, run_of(checkpoint_), group);
  table_ = std::make_unique<ParameterTable>(recipe_.model);
  // Eight bits are for training: a model speaks, and is measured, in bf16 (docs/precision.md).
  const Compute compute = is_fp8(recipe_.precision.compute) ? Compute::bf16 : recipe_.precision.compute;
  const ModelTypes types = model_types({.compute = compute}, Reproducibility::run);
  weights_ = measured("weights", [&](Arena& arena) {
    store_ = std::make_unique<ParameterStore>(*table_, types, arena, nullptr);
    model_ = std::make_unique<Model>(recipe_.model, *store_, recipe_.data.sequence_length, arena);
  });
  load_weights(group, *choice.checkpoint, stream);
}

InferenceModel::~InferenceModel() = default;

void InferenceModel::load_weights(Group& group, const Checkpoint& checkpoint, const Stream& stream) {
  // Checkpoints hold masters; weights are those rounded once, as the optimizer does it.
  for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision, ParameterSet::router_bias}) {
    const std::int64_t n = table_->num_elements(set);
    Arena masters({"masters"}, n * 8 + Arena::alignment);
    const Tensor flat = masters.allocate({n}, store_->types().accumulate, "masters");
    std::vector<Box> boxes;
    const std::string folder = set == ParameterSet::router_bias ? "/model/" : "/optimizer/master/";
    for (const Parameter* p : table_->of(set))
      boxes.push_back({folder + p->name, "", p->shape, 0,
                       flat.rows(p->offset, p->offset + p->shape.num_elements()).view(p->shape)});
    load_boxes(group, checkpoint, boxes);
    convert(stream, flat, store_->weights(set));
  }
}

EvaluationResult InferenceModel::evaluate_on(const Validation& validation, Group& group, const Stream& stream,
                                             std::int64_t sequences) {
  const std::int64_t T = recipe_.data.sequence_length;
  activations_ = measured("activations", [&](Arena& arena) {
    model_->allocate({sequences * T, T}, Model::Use::evaluation, arena);
  });
  Context options;
  options.attention_block = T <= 64 ? T : std::gcd<std::int64_t, std::int64_t>(T, 64);
  BatchRows rows;
  const ForwardPass forward = [&](int count, MicroBatches& batches) {
    for (int i = 0; i < count; ++i) {
      batches.fill(i, rows.batch());
      const BatchTensors tensors = rows.tensors();
      batches.take(model_->evaluate(stream, tensors, options), tensors);
    }
  };
  return evaluate(forward, stream, validation, {group.rank(), group.size()}, group, 0, sequences);
}

}  // namespace fourmi
