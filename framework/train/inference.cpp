#include "framework/train/inference.h"

#include <iostream>
#include <numeric>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/load.h"
#include "framework/interop/import_plan.h"
#include "framework/interop/model_recipe.h"
#include "framework/recipe/read.h"
#include "framework/run/companions.h"
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
  const auto kind = interop::foreign_kind(model);
  if (kind && group.rank() == 0) std::cerr << "fourmi: " << model.string() << " is " << interop::name_of(*kind) << "\n";
  if (kind)
    open_foreign(group, model, stream);
  else
    open_checkpoint(group, model, stream);
}

InferenceModel::~InferenceModel() = default;

std::filesystem::path InferenceModel::companions() const {
  const std::filesystem::path run = run_of(checkpoint_);
  return foreign_ ? foreign_->companions() : run.empty() ? run : companions_of(run);
}

void InferenceModel::open_foreign(Group& group, const std::filesystem::path& model, const Stream& stream) {
  agreed(group, [&] {
    foreign_ = std::make_unique<interop::ForeignModel>(model);
    recipe_ = foreign_->recipe(model.filename().string());
    messages_ = foreign_->warnings();
    checkpoint_ = foreign_->path();
    interop::has_fp8_blocks(foreign_->companions() / "config.json");  // refuses other ways to store weights
    constexpr std::int64_t any_size = std::int64_t{4} << 30;
    const interop::ImportPlan plan(recipe_.model, foreign_->weights(), any_size);
    if (foreign_->dtype(plan.map()) == "fp32") recipe_.precision.compute = Compute::fp32;  // as of an import
    make_model();
    take_foreign_weights(plan, stream);
  });
}

void InferenceModel::take_foreign_weights(const interop::ImportPlan& plan, const Stream& stream) {
  FOURMI_CHECK(store_->types().accumulate == DType::f32, "weights of a foreign model are converted from f32");
  constexpr std::int64_t at_once = std::int64_t{1} << 20;  // elements: memory for masters does not grow with the model
  std::vector<float> values;
  for (std::size_t f = 0; f < plan.files().size(); ++f) {
    const interop::PlannedFile& file = plan.files()[f];
    const TensorSource masters = plan.source(f);
    for (std::size_t i = 0; i < file.tensors.size(); ++i) {
      if (file.is_scale[i]) continue;
      const Parameter& p = *file.weights[i]->parameter;
      const Tensor weights = store_->weights(p.set);
      for (std::int64_t done = 0; done < p.shape.num_elements(); done += at_once) {
        const std::int64_t n = std::min(at_once, p.shape.num_elements() - done);
        values.resize(static_cast<std::size_t>(n));
        masters(i, done * 4, std::as_writable_bytes(std::span(values)));
        convert(stream, Tensor(values.data(), DType::f32, {n}), weights.rows(p.offset + done, p.offset + done + n));
      }
    }
  }
}

void InferenceModel::open_checkpoint(Group& group, const std::filesystem::path& model, const Stream& stream) {
  CheckpointChoice choice = open_model(group, model);
  FOURMI_CHECK(choice.checkpoint.has_value());
  messages_ = choice.messages;
  checkpoint_ = choice.checkpoint->folder;
  step_ = choice.checkpoint->manifest.state.step;
  recipe_ = parse_recipe(choice.checkpoint->manifest.state.recipe, (checkpoint_ / "manifest.json").string());
  agree_tokenizer(recipe_.data, run_of(checkpoint_), group);
  make_model();
  load_weights(group, *choice.checkpoint, stream);
}

void InferenceModel::make_model() {
  table_ = std::make_unique<ParameterTable>(recipe_.model);
  // Eight bits are for training: a model speaks, and is measured, in bf16 (docs/precision.md).
  const Compute compute = is_fp8(recipe_.precision.compute) ? Compute::bf16 : recipe_.precision.compute;
  const ModelTypes types = model_types({.compute = compute}, Reproducibility::run);
  weights_ = measured("weights", [&](Arena& arena) {
    store_ = std::make_unique<ParameterStore>(*table_, types, arena, nullptr);
    model_ = std::make_unique<Model>(recipe_.model, *store_, recipe_.data.sequence_length, arena);
  });
}

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
