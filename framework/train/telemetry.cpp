#include "framework/train/telemetry.h"

#include <cstring>

#include "framework/run/host.h"
#include "framework/telemetry/trace_file.h"
#include "framework/train/simulated_step.h"
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

/// A rank's actions as text for rank 0.
struct TraceHead {
  int place, replica;
};
std::string packed(const RankActions& actions) {
  const TraceHead head{actions.place, actions.replica};
  const std::span<const Pipeline::Done> done(actions.done);
  std::string text(sizeof head + done.size_bytes(), '\0');
  std::memcpy(text.data(), &head, sizeof head);
  std::memcpy(text.data() + sizeof head, done.data(), done.size_bytes());
  return text;
}

RankActions unpacked(const std::string& text) {
  TraceHead head{};
  std::memcpy(&head, text.data(), sizeof head);
  std::vector<Pipeline::Done> done((text.size() - sizeof head) / sizeof(Pipeline::Done));
  std::memcpy(done.data(), text.data() + sizeof head, done.size() * sizeof(Pipeline::Done));
  return {head.place, std::move(done), head.replica};
}

}  // namespace

std::size_t trace_records(const Recipe& recipe) {
  return recipe.logging.trace_last_step > 0 ? std::size_t{1} << 17 : 0;
}

Telemetry::Telemetry(const RunContext& context, Narrator& narrator, Reporting& reporting, const RankGroups& groups)
    : context_(context), narrator_(narrator), reporting_(reporting), timeline_(context.stream.timeline()) {
  const ModelSection& m = context.recipe.model;
  if (context.first() && context.recipe.logging.expert_load_every > 0 && m.n_routed_experts > 0)
    window_.emplace(moe_layers(m), m.n_routed_experts);
  if (!timeline_ || groups.world().size() == 1) return;
  lanes_.emplace(groups, *timeline_, trace_records(context.recipe) / 2);
  if (context.stream.device()) lanes_->follow(*context.stream.device());
}

bool Telemetry::traced(std::int64_t step) const {
  const LoggingSection& l = context_.recipe.logging;
  return l.trace_first_step <= step && step <= l.trace_last_step;
}

void Telemetry::begin_step(std::int64_t step) {
  reporting_.begin_step();
  if (!timeline_) return;
  if (traced(step)) {
    clock_.before = read_clock(context_.group);
    context_.group.barrier();  // it asked one rank after another: no rank is to wait for that in the step
  }
  timeline_->begin_step(traced(step));
  if (lanes_) lanes_->begin_step(traced(step));
}

void Telemetry::end_step() {
  if (lanes_) lanes_->end_step();
  if (timeline_) timeline_->end_step();
  if (!lanes_) return;
  for (const auto& [key, seconds] : exposure_figures(lanes_->waits())) reporting_.also(key, seconds);
}

void Telemetry::after_step(const Progress& progress, Engine& engine) {
  if (window_) add_expert_load(progress, engine);
  if (timeline_ && traced(progress.step)) write_trace_of(progress.step, engine);
}

std::string Telemetry::simulated(std::int64_t step, const Engine& engine) {
  const RankGroups& groups = engine.groups();
  RankActions mine{groups.coordinate(Axis::pipeline), on_device_clock(engine.pipeline().done(), *timeline_),
                   groups.mesh().peers(groups.world().rank(), {Axis::pipeline}).front()};
  for (Pipeline::Done& d : mine.done) d.begin = clock_.on_first(d.begin), d.end = clock_.on_first(d.end);
  std::vector<RankActions> all;
  gather_at_first(context_.group, packed(mine), [&](int, const std::string& text) { all.push_back(unpacked(text)); });
  if (!context_.first()) return {};
  const SimulatedStep s = simulate_step(context_.recipe, engine.stages(), all);
  const double seconds = static_cast<double>(timeline_->step_nanoseconds()) * 1e-9;
  const double simulated = seconds - s.measured + s.simulation.makespan;
  reporting_.also("simulated_step_seconds", simulated);
  narrator_.note(
      fmt::format("step {} took {:.4f} s, {:.4f} s of them its micro-batches; simulated with the mean times "
                  "of its stages {:.4f} s and {:.4f} s ({:+.1f}% of the step: {:+.1f}% since actions of a stage took "
                  "unequal time, {:+.1f}% between the actions)",
                  step, seconds, s.measured, simulated, s.simulation.makespan, 100 * (seconds - simulated) / seconds,
                  100 * (s.uneven - s.simulation.makespan) / seconds, 100 * (s.measured - s.uneven) / seconds));
  return trace_events(s, context_.group.size());
}

void Telemetry::write_trace_of(std::int64_t step, const Engine& engine) {
  clock_.after = read_clock(context_.group);
  const TraceLabels labels{step, context_.group.rank(), host_name(), context_.recipe.run.name};
  const std::string more = simulated(step, engine);
  try {
    write_trace(context_.group, context_.directory, labels,
                rank_trace(*timeline_, lanes_ ? &*lanes_ : nullptr, clock_, labels), more);
    if (timeline_->num_forgotten() > 0)
      narrator_.note(fmt::format("the trace of step {} lacks its first {} spans", step, timeline_->num_forgotten()));
  } catch (const Error& error) {
    if (error.status() != ExitStatus::environment) throw;
    // No trace is worth a run. The ranks go on telling: they do not know.
    if (!std::exchange(trace_failed_, true))
      narrator_.warn(fmt::format("no trace of step {}, and maybe of later ones: {}", step, error.what()));
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
