#include "framework/train/dry_run.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "framework/data/validation.h"
#include "framework/interop/origin.h"
#include "framework/ledger/policy.h"
#include "framework/recipe/read.h"
#include "framework/recipe/write.h"
#include "framework/run/console.h"
#include "framework/run/gpu_peak.h"
#include "framework/tokenizer/choose.h"
#include "framework/train/beginning.h"
#include "framework/train/engine.h"
#include "framework/train/exporting.h"
#include "framework/train/harvested.h"
#include "framework/train/horizon.h"
#include "framework/train/mesh_sizes.h"
#include "framework/train/meter.h"
#include "framework/train/model_ledger.h"
#include "framework/train/provenance.h"
#include "framework/train/schedule.h"
#include "framework/train/spending.h"
#include "framework/train/teacher/open_guidance.h"
#include "framework/train/teacher/open_teacher.h"
#include "framework/train/teacher/teacher_recipe.h"
#include "framework/train/teacher_terms.h"
#include "framework/train/traffic.h"

namespace fourmi {

namespace {

void add_memory_and_traffic(DryRun& run, const Recipe& r, const ParameterTable& table) {
  const ModelTypes types = model_types(r.precision, r.run.reproducibility);
  std::int64_t moments = r.precision.moments == Moments::bf16 ? 2 : size_of(types.accumulate);
  for (const Parameter& p : table.all())
    run.checkpoint_bytes +=
        p.shape.num_elements() * (size_of(types.accumulate) + (p.set == ParameterSet::router_bias ? 0 : 2 * moments));
  run.checkpoints_kept = r.checkpoint.keep_last;
  if (r.parallel.pipeline_schedule == "dualpipe") {
    run.warnings.push_back("parallel.pipeline_schedule: dualpipe is drawn, not trained with; dualpipev is its twin");
    return;
  }
  const StepSizes step{
      .num_micro_batches = static_cast<int>(r.data.global_batch_size.at(0) / run.data_ranks / r.data.micro_batch_size),
      .balance_loss = r.loss.balance_weight.at(0) != 0};
  run.traffic = predict_traffic(r, run.ranks, 0, step);
  run.dispatches = r.parallel.expert * r.parallel.expert_tensor > 1;
  if (r.parallel.dispatcher == "device" && r.parallel.expert > 1)
    run.warnings.push_back(
        "parallel.dispatcher: device is for ranks of one host, on the CPU, where those share experts (or are a node by "
        "dispatch_node_size); elsewhere `train` refuses");
  for (const auto& [name, bytes] : Engine::measure(r, run.ranks)) {
    run.memory_bytes_per_rank.emplace_back(name, bytes);
    run.memory_total += bytes;
  }
  const auto places = Arenas(r.memory).places();
  for (std::size_t i = 0; i < places.size(); ++i)
    if (places[i] == Place::host) run.arenas_on_host.emplace_back(Arenas::names[i]);
  const double here = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  if (static_cast<double>(run.memory_total) > here)
    run.warnings.push_back(fmt::format("a rank needs {}B of memory, this machine has {}B in all",
                                       short_count(static_cast<double>(run.memory_total)), short_count(here)));
}

/// As a launch does it, but for what only the teacher's checkpoint tells.
void check_terms(DryRun& run, const Recipe& r) {
  std::vector<TeacherFact> teachers;
  if (const std::optional<Trace> before = lineage_before(r)) {
    check_lineage(*before, r.ledger);
    teachers = before->teachers;
  }
  std::vector<TeacherFact> now = teachers_of_harvests(r);
  if (!r.distill.mode.empty() && r.distill.teacher != TeacherSection{}) {
    const TeacherFact told = teacher_of_recipe(r);
    std::erase_if(now, [&](const TeacherFact& t) { return is_same(t, told); });
    now.push_back(told);
  }
  for (TeacherFact& teacher : now) {
    judge_teacher(teacher, r.ledger);
    run.warnings.insert(run.warnings.end(), teacher.warnings.begin(), teacher.warnings.end());
    teachers.push_back(std::move(teacher));
  }
  check_own_export(r, teachers);
}

/// What is absent is a warning. False where that is so.
bool or_warn(DryRun& run, const std::function<void()>& look) {
  try {
    look();
    return true;
  } catch (const Error& e) {
    if (e.status() != ExitStatus::input) throw;
    run.warnings.push_back(e.what());
    return false;
  }
}

void open_inputs(DryRun& run, const Recipe& as_read) {
  Recipe r = as_read;
  if (!r.model.from.empty() && !std::filesystem::exists(r.model.from))
    run.warnings.push_back(fmt::format(
        "model.from: found no {}, expected a run directory, a checkpoint or another program's model", r.model.from));
  or_warn(run, [&] {
    for (const Error& e : unfinished_harvests(r)) run.warnings.push_back(e.what());
  });
  or_warn(run, [&] { check_policy(r); });
  or_warn(run, [&] { check_terms(run, r); });
  const bool whole = or_warn(run, [&] {
    const interop::VocabularyFiles files(r.data, r.run.directory);
    pin_tokenizer(r.data, r.run.directory);
    const std::vector<LoadedSource> sources = load_sources(r.data.train, "data.train");
    const Loader loader(r.data, sources, r.run.seed, r.model.vocab_size);
    const Validation validation(r.data, sources, r.run.seed, r.model.vocab_size);
    const Position start = loader.start();
    const Horizon horizon(r, loader);
    run.steps = horizon.last_step(0, start);
    if (holds_run(r.run.directory)) {
      const std::filesystem::path recorded = std::filesystem::path(r.run.directory) / "recipe.yaml";
      keep_horizon(load_recipe(recorded).schedule, run.schedule);
    }
    find_horizon(run.schedule, *run.steps);
    run.tokens = horizon.tokens_left(0, start);
    for (std::int64_t i = 0; i < loader.num_sources(); ++i)
      run.sources.push_back({start.sources[static_cast<std::size_t>(i)].name, loader.tokens_per_epoch(i),
                             loader.samples_per_epoch(i), loader.share(i),
                             loader.share(i) * run.tokens / static_cast<double>(loader.tokens_per_epoch(i))});
    run.warnings.insert(run.warnings.end(), loader.notes().begin(), loader.notes().end());
    horizon.check_repeat(0, start);
    if (r.distill.offline()) or_warn(run, [&] { open_cache(r, loader); });
  });
  if (!whole && !run.steps && r.run.steps) run.steps = *r.run.steps;
  if (run.steps && run.tokens == 0) run.tokens = static_cast<double>(*run.steps * run.tokens_per_step);
}

void check_disk(DryRun& run, const Recipe& r) {
  run.export_bytes = export_bytes_of_run(r, run.steps);
  const double checkpoints = static_cast<double>(run.checkpoint_bytes) * static_cast<double>(run.checkpoints_kept + 1);
  for (std::string& lack : lacking_room(
           {{r.run.directory, checkpoints, "checkpoints need"}, {r.export_.path, run.export_bytes, "exports need"}}))
    run.warnings.push_back(std::move(lack));
}

/// A teacher's memory depends on its architecture. Of one that is not there nothing is counted.
Recipe with_teacher(DryRun& run, const Recipe& as_read) {
  if (!as_read.distill.online()) return as_read;
  Recipe r = as_read;
  const bool is_there = or_warn(run, [&] {
    const interop::VocabularyFiles files(r.data, r.run.directory);
    pin_tokenizer(r.data, r.run.directory);
    pin_teacher(r);
  });
  r.data = as_read.data;
  if (is_there) return r;
  run.warnings.push_back("the teacher is counted nowhere below: neither its memory nor what it asks of the ranks");
  r.distill = {};
  return r;
}

int least_ranks_of(const Recipe& r) {
  const std::int64_t least = least_ranks(mesh_sizes(r, 1));
  return static_cast<int>(r.distill.online() ? std::lcm(least, least_ranks(mesh_sizes(teacher_recipe(r), 1))) : least);
}

struct Yardstick {
  MachinePeak peak;
  std::string name;
};
/// The GPUs of a recipe are elsewhere more often than not: an H100's datasheet stands for them.
Yardstick yardstick_of(const Recipe& r, int ranks) {
  if (r.run.device != DeviceChoice::cuda)
    return {host_peak(measure_core(best_isa()), usable_cores()), "this machine (its measured peak)"};
  const MachinePeak one = gpu_peak("NVIDIA H100 80GB HBM3").value();
  MachinePeak all;
  for (int i = 0; i < ranks; ++i) all += one;
  return {all, fmt::format("{} GPU{} as fast as an H100 (its datasheet's dense peak)", ranks, ranks == 1 ? "" : "s")};
}

}  // namespace

DryRun dry_run(const Recipe& as_read, int ranks) {
  DryRun run;
  const Recipe r = with_teacher(run, as_read);
  run.ranks_chosen = ranks == 0;
  run.ranks = ranks > 0 ? ranks : least_ranks_of(r);
  check_ranks(r, run.ranks);
  if (r.distill.online()) check_teacher_ranks(r, run.ranks);
  run.data_ranks = data_ranks(r.parallel, run.ranks);
  if (r.parallel.pipeline > 1) run.pipeline = draw_pipeline(r, run.data_ranks);
  run.pairs = pair_rule(r);
  run.schedule = r.schedule;
  const ParameterTable table(r.model);
  run.counts = count_model(r.model, table, r.data.sequence_length);
  run.tokens_per_step = r.data.global_batch_size.at(0) * r.data.sequence_length;
  add_memory_and_traffic(run, r, table);
  open_inputs(run, r);
  check_disk(run, r);
  if (run.steps) {
    const Yardstick yardstick = yardstick_of(r, run.ranks);
    run.least_on = yardstick.name;
    run.least_seconds = Meter(r, run.counts, yardstick.peak).speed_of_light(1) * run.tokens;
    run.device_hours = run.least_seconds * run.ranks / 3600;
    run.cost = Spending::cost_of(r.budget, run.device_hours);
    if (Spending::is_exceeded(r.budget, run.device_hours))
      run.warnings.push_back(
          fmt::format("the budget does not suffice: at least {:.3g} device hours are needed{}", run.device_hours,
                      run.cost ? fmt::format(", which cost {:.3g} {}", *run.cost, r.budget.currency) : std::string()));
  }
  return run;
}

namespace {
std::string text_of(const PipelineDrawing& p) {
  std::string s =
      fmt::format("pipeline       {}, {} micro-batches, simulated by operations: {:.1f}% of the time idle\n",
                  p.schedule, p.num_micro_batches, 100 * p.bubble);
  s += "               rank of the pipeline, its stages\n" + p.stages;
  s += "               activations kept at most, in stages, by rank:";
  for (int peak : p.peak_stages) s += fmt::format(" {}", peak);
  return s + "\n" + p.timeline;
}
}  // namespace

std::string to_text(const DryRun& d, const Recipe& r) {
  std::string s = "# the resolved recipe\n" + to_yaml(r) + "\n";
  s += fmt::format("ranks          {}{}\n", d.ranks,
                   d.ranks_chosen ? " (nobody said: the least that the sizes allow)" : "");
  s += Mesh(mesh_sizes(r, d.ranks)).table();
  s += fmt::format(
      "schedule       each rank, each step: {} micro-batches of {} sequences x {} tokens, forward and backward in "
      "turn; then\n"
      "               sum of gradients over {} ranks by panels, AdamW on own panels, weights to all\n",
      r.data.global_batch_size.at(0) / d.data_ranks / r.data.micro_batch_size, r.data.micro_batch_size,
      r.data.sequence_length, d.data_ranks);
  if (d.pipeline) s += text_of(*d.pipeline);
  if (!d.pairs.why.empty()) s += fmt::format("pairs          {}\n", to_text(d.pairs));
  s += fmt::format("parameters     {} ({} active; {} more in multi-token prediction)\n", d.counts.parameters_total,
                   d.counts.parameters_active, d.counts.parameters_mtp);
  s +=
      fmt::format("work           {:.4g} GFLOP a token, forward and backward ({:.4g} more in multi-token prediction)\n",
                  d.counts.flops_per_token / 1e9, d.counts.flops_per_token_mtp / 1e9);
  s += "memory a rank\n";
  for (const auto& [name, bytes] : d.memory_bytes_per_rank) {
    const bool host = std::find(d.arenas_on_host.begin(), d.arenas_on_host.end(), name) != d.arenas_on_host.end();
    if (bytes > 0 || !host) s += fmt::format("  {:<13}{:>16} bytes{}\n", name, bytes, host ? " in host memory" : "");
  }
  s += fmt::format("  {:<13}{:>16} bytes\n", "together", d.memory_total);
  if (!d.traffic.empty())
    s += fmt::format("sent by rank 0 in a step{}\n{}",
                     d.dispatches ? ", but for rows to experts, which the router chooses" : "", to_text(d.traffic));
  s += fmt::format("checkpoint     {} bytes each, {} kept\n", d.checkpoint_bytes, d.checkpoints_kept);
  if (d.export_bytes > 0)
    s += fmt::format("export         {:.0f} bytes in {}{}\n", d.export_bytes, r.export_.path,
                     r.export_.when == ExportWhen::checkpoints ? ", a folder for each checkpoint" : " at the end");
  for (const DryRun::Source& source : d.sources)
    s += fmt::format("data           {}: {} tokens in {} sequences, a share of {:.4f}, read {:.3f} times\n",
                     source.name, source.tokens_per_epoch, source.samples_per_epoch, source.share, source.epochs);
  if (d.steps) {
    const auto& ramp = r.data.global_batch_size.over_tokens.steps;
    s += fmt::format("steps          {} of {} tokens{}: {:.4g} tokens\n", *d.steps, d.tokens_per_step,
                     ramp.size() > 1 ? " at first" : "", d.tokens);
    for (std::size_t i = 1; i < ramp.size(); ++i)
      s += fmt::format("               {:.0f} sequences a step from {:.4g} tokens on\n", ramp[i].second, ramp[i].first);
    s += fmt::format("learning rate  {}\n", to_text(d.schedule));
    s += fmt::format("time           at least {} on {}, {:.3g} device hours\n", short_time(d.least_seconds), d.least_on,
                     d.device_hours);
    s += d.cost ? fmt::format("cost           at least {:.3g} {}\n", *d.cost, r.budget.currency)
                : std::string("cost           not known: no budget.price_per_gpu_hour\n");
  }
  return s;
}

std::string to_json(const DryRun& d) {
  nlohmann::ordered_json j;
  j["parameters_total"] = d.counts.parameters_total;
  j["parameters_active"] = d.counts.parameters_active;
  j["parameters_mtp"] = d.counts.parameters_mtp;
  j["flops_per_token"] = d.counts.flops_per_token;
  j["flops_per_token_mtp"] = d.counts.flops_per_token_mtp;
  j["ranks"] = d.ranks;
  if (d.pipeline) {
    j["pipeline"] = {{"schedule", d.pipeline->schedule},
                     {"micro_batches", d.pipeline->num_micro_batches},
                     {"bubble", d.pipeline->bubble},
                     {"peak_stages", d.pipeline->peak_stages},
                     {"pairs_together", d.pairs.how == Pairs::together}};
  }
  j["memory_bytes_per_rank"] = nlohmann::ordered_json::object();
  for (const auto& [name, bytes] : d.memory_bytes_per_rank) j["memory_bytes_per_rank"][name] = bytes;
  j["memory_on_host"] = d.arenas_on_host;
  j["traffic_of_rank_0"] = nlohmann::ordered_json::array();
  for (const GroupTraffic& g : d.traffic) {
    nlohmann::ordered_json group{{"group", g.group}, {"ranks", g.size}};
    for (std::size_t c = 0; c < num_calls; ++c)
      if (const Traffic& t = g.by_call[c]; t != Traffic{})
        group["calls"][name_of(static_cast<Call>(c))] = {{"calls", t.calls}, {"bytes", t.bytes}};
    j["traffic_of_rank_0"].push_back(group);
  }
  j["checkpoint_bytes"] = d.checkpoint_bytes;
  if (d.export_bytes > 0) j["export_bytes"] = static_cast<std::int64_t>(d.export_bytes);
  if (d.steps) j["steps"] = *d.steps;
  if (d.schedule.horizon_steps) j["horizon_steps"] = *d.schedule.horizon_steps;
  j["tokens_per_step"] = d.tokens_per_step;
  j["tokens"] = d.tokens;
  j["sources"] = nlohmann::ordered_json::array();
  for (const DryRun::Source& source : d.sources)
    j["sources"].push_back({{"name", source.name},
                            {"tokens_per_epoch", source.tokens_per_epoch},
                            {"samples_per_epoch", source.samples_per_epoch},
                            {"share", source.share},
                            {"epochs", source.epochs}});
  j["least_seconds"] = d.least_seconds;
  j["least_on"] = d.least_on;
  j["device_hours"] = d.device_hours;
  if (d.cost) j["cost"] = *d.cost;
  j["warnings"] = d.warnings;
  return j.dump(2);
}

}  // namespace fourmi
