#include "framework/train/trainer.h"

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/folder.h"
#include "framework/recipe/write.h"
#include "framework/run/companions.h"
#include "framework/run/host.h"
#include "framework/tokenizer/choose.h"
#include "framework/train/beginning.h"
#include "framework/train/exporting.h"
#include "framework/train/guard.h"
#include "framework/train/horizon.h"
#include "framework/train/inputs.h"
#include "framework/train/pair_rule.h"
#include "framework/train/precision_guard.h"
#include "framework/train/provenance.h"
#include "framework/train/reporting.h"
#include "framework/train/rollbacks.h"
#include "framework/train/saving.h"
#include "framework/train/schedule.h"
#include "framework/train/stopping.h"
#include "framework/train/teacher/open_guidance.h"
#include "framework/train/teacher/teacher_recipe.h"
#include "framework/train/telemetry.h"

namespace fourmi {

struct Trainer::Impl {
  Impl(const Recipe& r, Group& g, const Stream& s, TrainOptions o)
      : resolved(r),
        group(g),
        timeline(trace_records(r)),
        stream(s.with(timeline)),
        options(std::move(o)),
        context{recipe, g, stream, r.run.directory},
        narrator(g.rank() == 0),
        guard(recipe.guard, narrator),
        precision_guard(recipe, narrator, [this](const PrecisionFigures& figures, const Engine& compared) {
          reporting->precision(figures, progress.launch, compared);
        }) {
    if (stream.device()) timeline.follow(*stream.device());
  }

  ExitStatus run();
  void end(ExitStatus status_of_run);
  void begin();
  void load_inputs();
  void record_launch(const std::optional<Checkpoint>& checkpoint);
  /// False if the step led back to a checkpoint.
  bool train_step();
  void begin_state(Beginning& from, const std::optional<Checkpoint>& checkpoint);
  void roll_back(const StepPlan& bad);
  void finish_pending_save();
  void save_if_due();
  void export_saved();
  void export_last();
  void evaluate_now();
  Horizon horizon() const { return {recipe, *loader}; }
  void enter(Phase phase, std::int64_t at) {
    if (status) status->set_phase(name_of(phase));
    if (options.observer) options.observer(phase, at);
  }

  Recipe resolved;  // the one given, with the horizon that its schedule is found to have
  const Recipe& recipe = resolved;
  Group& group;
  Timeline timeline;
  const Stream stream;  // the one given, with the timeline
  TrainOptions options;
  RunContext context;
  Narrator narrator;
  Exporting exporting{context, narrator};
  Provenance provenance{context, narrator};
  std::optional<Spending> spending;
  Guard guard;
  PrecisionGuard precision_guard;

  std::unique_ptr<Lease> lease;  // rank 0's
  std::unique_ptr<StatusFile> status;
  std::unique_ptr<Loader> loader;
  std::unique_ptr<Validation> validation;
  std::unique_ptr<RankGroups> groups, teacher_groups;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Reporting> reporting;
  std::unique_ptr<Telemetry> telemetry;
  std::unique_ptr<Saving> saving;
  std::unique_ptr<Rollbacks> rollbacks;
  Guard::Verdict verdict = Guard::Verdict::update;  // on the last step

  Beginning beginning;
  Progress progress;
  double stall_seconds = 0;  // since the last step: what saving and agreeing on a stop cost
  std::string stop_cause;    // for status.json, where a person should know it
  StepPlan plan;             // of the step that is being made; kept for its memory
};

Trainer::Trainer(const Recipe& recipe, Group& group, const Stream& stream, TrainOptions options)
    : impl_(std::make_unique<Impl>(recipe, group, stream, std::move(options))) {}
Trainer::~Trainer() = default;
ExitStatus Trainer::run() {
  const ExitStatus status = impl_->run();
  impl_->end(status);
  return status;
}

void require_trainable(const Recipe& r) {
  stage_map(r);
}

void Trainer::Impl::begin() {
  if (options.observer) options.observer(Phase::start, 0);
  const auto launch_known = [this] {
    // What earlier launches used up is read before this one writes its first status.
    const double hours_before = context.first() ? recorded_device_hours(context.directory) : 0;
    spending.emplace(recipe.budget, DeviceTime(hours_before, group.size()));
    context.spending = &*spending;
    status = std::make_unique<StatusFile>(context.directory, beginning.launch);
    status->set_device_time(spending->time());
    status->set_phase(name_of(Phase::start));
    if (context.first()) tell_of_the_dead(context.directory, beginning.launch, beginning.messages);
    if (context.first()) status->tick();
    if (options.status_ready) options.status_ready(status.get());
  };
  beginning.decision = agree_start(resolved, group, options.accept_changes, lease, beginning.launch, launch_known);
  if (!context.first()) launch_known();
  narrator.open(context.directory, group.rank());

  enter(Phase::load, 0);
  agreed(group, [&] { provenance.check(); });
  exporting.begin();
  load_inputs();
  reporting = std::make_unique<Reporting>(context, narrator, engine->table());
  telemetry = std::make_unique<Telemetry>(context, narrator, *reporting, *groups);
  const std::optional<Checkpoint> checkpoint = choose_checkpoint(recipe, group, beginning.decision, beginning.messages);
  rollbacks = std::make_unique<Rollbacks>(context);
  begin_state(beginning, checkpoint);
  progress = {.launch = beginning.launch,
              .started_at = beginning.step,
              .step = beginning.step,
              .last_step = horizon().last_step(beginning.step, beginning.state.position),
              .tokens = beginning.tokens,
              .state = beginning.state};
  if (!progress.done()) agreed(group, [&] { horizon().check_repeat(progress.step, progress.state.position); });
  for (const std::string& m : beginning.messages) narrator.warn(m);
  for (const ChangedKey& c : beginning.decision.changes) narrator.say("changed: " + to_string(c));
  record_launch(checkpoint);
  saving = std::make_unique<Saving>(context, narrator, *reporting, *status, lease.get(), *engine, provenance,
                                    checkpoint ? beginning.step : -1);
}

/// Collective. The state of a checkpoint, or the beginning's; with the data that a rollback to it went on with, if
/// there was one.
void Trainer::Impl::begin_state(Beginning& from, const std::optional<Checkpoint>& checkpoint) {
  load_state(*engine, recipe, group, checkpoint, *loader, options.accept_changes, from);
  const Rollback* rollback = rollbacks->last_to(checkpoint ? checkpoint->manifest.root : "");
  if (!rollback) return PrecisionGuard::restore(*engine, from.state.guard);
  from.rollback = RollbackFact{rollback->bad_step, rollback->step, rollback->why};
  agreed(group, [&] {
    from.state = training_state_from_json(rollback->state, "rollbacks.jsonl");
    from.state.position = loader->resume(from.state.position, options.accept_changes);
  });
  PrecisionGuard::restore(*engine, from.state.guard);
}

void Trainer::Impl::load_inputs() {
  agree_inputs_open(recipe.data, group);
  groups = std::make_unique<RankGroups>(make_groups(recipe, group));
  teacher_groups = make_teacher_groups(recipe, group);
  agreed(group, [&] {
    const std::vector<LoadedSource> sources = load_sources(recipe.data.train, "data.train");
    loader = std::make_unique<Loader>(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size, &stream.pool());
    find_horizon(resolved.schedule, horizon().last_step(0, loader->start()));
    validation =
        std::make_unique<Validation>(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size, &stream.pool());
    engine = std::make_unique<Engine>(recipe, *groups, stream, teacher_groups.get());
    provenance.describe();
    if (options.engine_ready) options.engine_ready(*engine);
  });
  agree_inputs_equal(*loader, *validation, group);
  if (auto lessons = open_guidance(engine->guidance(), recipe, *loader, group, stream, beginning.messages)) {
    if (!lessons->note.empty()) narrator.say(lessons->note);
    provenance.teach(std::move(lessons->teacher), std::move(lessons->capture));
  }
  for (const auto* notes : {&loader->notes(), &validation->notes()})
    for (const std::string& note : *notes) narrator.say(note);
  if (recipe.schedule.has_horizon()) narrator.say("learning rate: " + to_text(recipe.schedule));
  if (const PairRule pairs = pair_rule(recipe); !pairs.why.empty()) narrator.say(to_text(pairs));
  if (recipe.run.reproducibility == Reproducibility::layout)
    narrator.say(
        "run.reproducibility: layout: the same bits in every layout, for exact sums: 16 bytes a gradient instead of 4, "
        "and slower steps (fourmi bench step RECIPE measures both)");
}

void Trainer::Impl::record_launch(const std::optional<Checkpoint>& checkpoint) {
  LaunchRecord record = options.record;
  record.number = progress.launch;
  record.step = progress.step;
  record.hosts = gather_texts(group, host_name());
  record.recipe = to_yaml(recipe);
  agreed(group, [&] {
    if (!context.first()) return;
    // First the ledger: it may refuse, and then nothing of the run has changed.
    provenance.begin(beginning, checkpoint, record, options.accept_changes);
    keep_tokenizer(recipe.data, context.directory);
    if (beginning.origin)
      keep_companions(beginning.origin->folder, context.directory);
    else if (!beginning.checkpoint.empty())
      keep_companions(beginning.checkpoint, context.directory);
    record_start(context.directory, beginning.decision, record);
    reporting->open(progress.step, progress.launch);
  });
  status->set_step(progress.step);
  if (!beginning.checkpoint.empty()) status->set_checkpoint(beginning.checkpoint.string());
}

ExitStatus Trainer::Impl::run() {
  const Stopping stopping(context);
  begin();
  if (progress.done()) {
    narrator.say(
        fmt::format("{}: finished at step {}, nothing is left to do", context.directory.string(), progress.step));
    export_last();
    return ExitStatus::ok;
  }
  if (const Stopping::Wish spent = stopping.budget()) {
    stop_cause = spent.why;
    narrator.say(fmt::format("{}: at step {} nothing is left of the budget ({}); a larger one lets the run go on",
                             context.directory.string(), progress.step, spent.why));
    return spent.status;
  }
  export_saved();
  saving->reserve();
  reporting->introduce(progress, beginning.checkpoint.string());
  Stopping::Wish stop;
  while (!progress.done() && !stop) {
    if (!train_step()) continue;
    if (progress.due(recipe.evaluation.every) && !progress.done()) evaluate_now();
    const Clock::time_point step_ended = Clock::now();
    save_if_due();
    const Span span(stream.timeline(), Work::reduce, "agree_to_go_on");
    stop = stopping.agreed(progress);
    stall_seconds = seconds_since(step_ended);
  }
  if (progress.done() && recipe.evaluation.at_end && validation->num_windows() > 0) evaluate_now();
  enter(Phase::save, progress.step);
  {
    const OwningSpan span(stream.timeline(), Work::save, "save");
    saving->finish(progress);
  }
  reporting->sync();
  if (progress.done()) export_last();
  reporting->conclude();
  if (progress.done()) return ExitStatus::ok;
  stop_cause = stop.why;
  if (stop.status == ExitStatus::budget) {
    narrator.say(
        fmt::format("stopped at step {}: {}; with a larger budget the same command goes on", progress.step, stop.why));
  } else {
    narrator.say(fmt::format("stopped at step {} on {}; the same command goes on", progress.step, stop.why));
  }
  return stop.status;
}

bool Trainer::Impl::train_step() {
  telemetry->begin_step(progress.step + 1);
  {
    const Span span(stream.timeline(), Work::data, "plan_step");
    loader->plan_step(progress.state.position, plan, recipe.run.epochs);
  }
  const PhaseObserver observer = [this](Phase phase, std::int64_t at) { enter(phase, at); };
  const StepJudge judge = [this](const StepResult& r) {
    try {
      verdict = guard.judge(r, progress.step + 1, progress.state.guard);
    } catch (const Error&) {  // on every rank, or on none
      finish_pending_save();
      throw;
    }
    return verdict == Guard::Verdict::update;
  };
  const ShadowStep step{*loader, plan, progress.step + 1, static_cast<double>(progress.tokens), observer};
  StepResult result = precision_guard.step(*engine, step, progress.state.guard, judge);
  telemetry->end_step();
  if (verdict == Guard::Verdict::rollback) {
    roll_back(plan);
    return false;
  }
  result.spike_z = guard.spike_z();
  ++progress.step;
  progress.tokens += plan.num_inputs;
  provenance.consumed(progress.step, plan.source_inputs);
  progress.state.position = plan.next;
  progress.last_step = horizon().last_step(progress.step, progress.state.position);
  status->set_step(progress.step);
  if (context.first()) status->tick();
  telemetry->after_step(progress, *engine);
  reporting->step(progress, result, engine->traffic(), static_cast<double>(timeline.step_nanoseconds()) * 1e-9,
                  std::exchange(stall_seconds, 0));
  return true;
}

/// Collective. Back to the newest checkpoint (the beginning without one); the data from there to the end of the bad
/// step is left out.
void Trainer::Impl::roll_back(const StepPlan& bad) {
  const std::int64_t bad_step = progress.step + 1;
  if (rollbacks->count() >= recipe.guard.max_rollbacks) {
    finish_pending_save();
    throw Error(
        ExitStatus::guard, fmt::format("step {}", bad_step),
        fmt::format("{}; the run was rolled back {} time(s), expected a good step after at most guard.max_rollbacks",
                    guard.why(), rollbacks->count()),
        "Lower optimizer.learning_rate or look at the data; a larger guard.max_rollbacks goes on with other data");
  }
  enter(Phase::load, progress.step);
  saving->settle_pending(progress);  // of a step before the bad one
  StartDecision own = beginning.decision;
  own.kind = StartDecision::Kind::go_on;  // the run's own checkpoints first
  Beginning from;
  const std::optional<Checkpoint> checkpoint = choose_checkpoint(recipe, group, own, from.messages);
  begin_state(from, checkpoint);
  from.state.guard.left_out.push_back({bad_step, from.state.position.samples, bad.next.samples});
  from.state.position = bad.next;
  from.state.guard.promoted = progress.state.guard.promoted;  // those of the checkpoint, and later ones
  PrecisionGuard::restore(*engine, from.state.guard);
  rollbacks->add({progress.launch, bad_step, from.step, checkpoint ? checkpoint->manifest.root : "", guard.why(),
                  to_json(from.state)});
  progress.step = from.step;
  progress.tokens = from.tokens;
  progress.state = from.state;
  agreed(group, [&] {
    if (!context.first()) return;
    provenance.roll_back(checkpoint ? checkpoint->manifest.state.ledger_head : "", bad_step, from.step, guard.why());
    reporting->open(progress.step, progress.launch);
  });
  status->set_step(progress.step);
  saving->rolled_back(checkpoint ? from.step : -1);
  telemetry.reset();  // its windows begin anew
  telemetry = std::make_unique<Telemetry>(context, narrator, *reporting, *groups);
  for (const std::string& m : from.messages) narrator.warn(m);
  const LeftOut& left_out = from.state.guard.left_out.back();
  narrator.warn(fmt::format("step {}: {}; back to step {} ({}), samples {} to {} are left out, rollback {} of {}",
                            bad_step, guard.why(), from.step,
                            checkpoint ? checkpoint->folder.string() : "the beginning", left_out.first, left_out.last,
                            rollbacks->count(), recipe.guard.max_rollbacks));
}

/// Collective. Before the guard ends the run: a save that was begun before the bad step is a good one.
void Trainer::Impl::finish_pending_save() {
  enter(Phase::save, progress.step);
  try {
    saving->settle_pending(progress);
  } catch (const Error& e) {  // the guard's error ends the run, not this one
    narrator.warn(e.what());
  }
}

void Trainer::Impl::save_if_due() {
  const OwningSpan span(stream.timeline(), Work::save, "save");
  if (!progress.done() && saving->due(progress)) {
    enter(Phase::save, progress.step);
    saving->start(progress);
  }
  saving->poll(progress);
  export_saved();
}

void Trainer::Impl::export_saved() {
  if (!exporting.is_due(saving->saved_step())) return;
  enter(Phase::exporting, progress.step);
  exporting.after_save(saving->saved_step());
}

/// Of a run at its target, whose state has a checkpoint.
void Trainer::Impl::export_last() {
  if (recipe.export_.when == ExportWhen::never) return;
  enter(Phase::exporting, progress.step);
  const OwningSpan span(stream.timeline(), Work::save, "export");
  const std::filesystem::path own = context.directory / "checkpoints" / step_name(progress.step);
  exporting.finish(progress.step > beginning.step ? own : beginning.checkpoint);
}

void Trainer::Impl::evaluate_now() {
  enter(Phase::evaluate, progress.step);
  const OwningSpan span(stream.timeline(), Work::evaluate, "evaluate");
  reporting->evaluation(progress, engine->evaluate(*validation, recipe.evaluation.sequences));
}

void Trainer::Impl::end(ExitStatus status_of_run) {
  if (!context.first()) return;
  Ending ending;
  ending.exit_status = status_of_run;
  if (status_of_run == ExitStatus::budget) ending.cause = stop_cause;
  status->write_final(ending);
  lease->release();
}

}  // namespace fourmi
