#include "framework/train/telemetry.h"

#include "framework/run/host.h"
#include "framework/telemetry/trace.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

namespace {

/// The MoE layers in the order of the model's counts: the blocks', then that of multi-token prediction.
std::vector<std::int64_t> moe_layers(const ModelSection& m) {
  std::vector<std::int64_t> layers;
  for (std::int64_t l = 0; l < m.num_hidden_layers + (m.num_nextn_predict_layers > 0); ++l)
    if (is_moe_layer(m, l)) layers.push_back(l);
  return layers;
}

}  // namespace

std::size_t trace_records(const Recipe& recipe) {
  return recipe.logging.trace_last_step > 0 ? std::size_t{1} << 17 : 0;
}

Telemetry::Telemetry(const RunContext& context, Narrator& narrator, Reporting& reporting)
    : context_(context), narrator_(narrator), reporting_(reporting), timeline_(context.stream.timeline()) {
  const ModelSection& m = context.recipe.model;
  if (context.first() && context.recipe.logging.expert_load_every > 0 && m.n_routed_experts > 0)
    window_.emplace(moe_layers(m), m.n_routed_experts);
}

bool Telemetry::traced(std::int64_t step) const {
  const LoggingSection& l = context_.recipe.logging;
  return l.trace_first_step <= step && step <= l.trace_last_step;
}

void Telemetry::begin_step(std::int64_t step) {
  if (timeline_) timeline_->begin_step(traced(step));
}

void Telemetry::end_step() {
  if (timeline_) timeline_->end_step();
}

void Telemetry::after_step(const Progress& progress, Engine& engine) {
  if (window_) add_expert_load(progress, engine);
  if (!timeline_ || !traced(progress.step) || trace_failed_) return;
  try {
    const std::string& run = context_.recipe.run.name;
    write_trace(context_.directory, *timeline_, {progress.step, context_.group.rank(), host_name(), run});
    if (timeline_->num_forgotten() > 0)
      narrator_.note(
          fmt::format("the trace of step {} lacks its first {} spans", progress.step, timeline_->num_forgotten()));
  } catch (const Error& error) {
    trace_failed_ = true;  // no trace is worth a run
    narrator_.warn(fmt::format("no trace of step {} and later: {}", progress.step, error.what()));
  }
}

void Telemetry::add_expert_load(const Progress& progress, Engine& engine) {
  const Tensor& counts = engine.expert_counts();
  window_->add({counts.as<std::int64_t>(), static_cast<std::size_t>(counts.num_elements())});
  if (!progress.due(context_.recipe.logging.expert_load_every) && !progress.done()) return;
  std::vector<double> biases;
  for (const Slot& slot : engine.router_biases()) {
    const OnHost here(engine.stream(), engine.store().weight(slot));
    const Tensor& bias = here.tensor();
    for (std::int64_t e = 0; e < bias.num_elements(); ++e)
      biases.push_back(bias.dtype == DType::f64 ? bias.as<double>()[e] : static_cast<double>(bias.as<float>()[e]));
  }
  reporting_.expert_load(progress, window_->close(biases));
}

}  // namespace fourmi
