#include "framework/train/trainer.h"

#include <chrono>
#include <iostream>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/save.h"
#include "framework/data/tokenizer.h"
#include "framework/recipe/write.h"
#include "framework/run/console.h"
#include "framework/run/host.h"
#include "framework/run/metrics.h"
#include "framework/run/signals.h"
#include "framework/train/beginning.h"
#include "framework/train/evaluate.h"
#include "framework/train/meter.h"

namespace fourmi {

namespace {
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }
}  // namespace

struct Trainer::Impl {
  Impl(const Recipe& r, Group& g, const Stream& s, TrainOptions o)
      : recipe(r), group(g), stream(s), options(std::move(o)), directory(r.run.directory), first(g.rank() == 0) {}

  ExitStatus run();
  void end(ExitStatus status_of_run) {
    Ending ending;
    ending.exit_status = status_of_run;
    if (first) status->write_final(ending);
    if (first) lease->release();
  }
  void begin();
  void open_logs();
  void train_step();
  void report(const StepResult& result, double seconds);
  void evaluate_now();
  void save_now();
  void settle(const SaveOutcome& outcome);
  /// Collective: the strongest wish of any rank. 0: go on.
  std::int64_t agreed_stop();
  bool due(std::int64_t every) const { return every > 0 && step % every == 0; }
  bool save_due();
  void say(const std::string& text) {
    if (first) std::cerr << text << std::endl;
    if (log) log->info(text);
  }
  void warn(const std::string& text) {
    if (first) std::cerr << "fourmi: warning: " << text << std::endl;
    if (log) log->warn(text);
  }
  void enter(Phase phase, std::int64_t at) {
    if (status) status->set_phase(name_of(phase));
    if (options.observer) options.observer(phase, at);
  }

  const Recipe& recipe;
  Group& group;
  const Stream& stream;
  TrainOptions options;
  std::filesystem::path directory;
  bool first;

  std::unique_ptr<Lease> lease;
  std::unique_ptr<Log> log;
  std::unique_ptr<StatusFile> status;
  std::vector<LoadedSource> sources;
  std::unique_ptr<Loader> loader;
  std::unique_ptr<Validation> validation;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Meter> meter;
  std::unique_ptr<MetricsLog> metrics;
  std::unique_ptr<EvaluationLog> evaluations;
  std::unique_ptr<CheckpointSaver> saver;

  Beginning beginning;
  Position position;
  std::int64_t step = 0, last_step = 0, tokens = 0, saved_step = -1;
  Clock::time_point launched = Clock::now(), last_save = Clock::now();
  double step_seconds = 0, tokens_per_second = 0;  // smoothed, for the console
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
  if (r.model.model_type == "qwen3_moe")
    throw Error(ExitStatus::usage, "model.model_type", "found qwen3_moe, expected deepseek_v2, deepseek_v3 or kimi_k2",
                "This family is validated and counted, and cannot be trained yet");
  if (r.run.device == DeviceChoice::cuda)
    throw Error(ExitStatus::environment, "run.device", "found cuda, expected cpu or auto: this build has no CUDA back end", "Set run.device: cpu");
}

void Trainer::Impl::begin() {
  if (options.observer) options.observer(Phase::start, 0);
  const auto launch_known = [this] {
    status = std::make_unique<StatusFile>(directory, beginning.launch);
    status->set_phase(name_of(Phase::start));
    if (first) status->tick();
    if (options.status_ready) options.status_ready(status.get());
  };
  beginning.decision = agree_start(recipe, group, options.accept_changes, lease, beginning.launch, launch_known);
  if (!first) launch_known();
  log = std::make_unique<Log>(directory, group.rank());

  enter(Phase::load, 0);
  agreed(group, [&] {
    sources = load_sources(recipe.data.train, "data.train");
    make_tokenizer(recipe.data.tokenizer, recipe.model.vocab_size);
    loader = std::make_unique<Loader>(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size);
    validation = std::make_unique<Validation>(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size);
    engine = std::make_unique<Engine>(recipe, group, stream);
  });
  meter = std::make_unique<Meter>(recipe, count_model(recipe.model, engine->table(), recipe.data.sequence_length), group, stream.isa());
  last_step = target_steps(recipe, *loader);
  const std::optional<Checkpoint> checkpoint = choose_checkpoint(recipe, group, beginning.decision, beginning.messages);
  load_state(*engine, group, checkpoint, *loader, options.accept_changes, beginning);
  step = saved_step = beginning.step;
  if (!checkpoint) saved_step = -1;
  tokens = beginning.tokens;
  position = beginning.position;
  for (const std::string& m : beginning.messages) warn(m);
  for (const ChangedKey& c : beginning.decision.changes) say("changed: " + to_string(c));
  open_logs();
}

void Trainer::Impl::open_logs() {
  LaunchRecord record = options.record;
  record.number = beginning.launch;
  record.step = step;
  record.hosts = gather_texts(group, host_name());
  record.recipe = to_yaml(recipe);
  agreed(group, [&] {
    if (!first) return;
    record_start(directory, beginning.decision, record);
    const Warn say_warning = [this](const std::string& text) { warn(text); };
    metrics = std::make_unique<MetricsLog>(directory, step, say_warning);
    evaluations = std::make_unique<EvaluationLog>(directory, step, say_warning);
  });
  saver = std::make_unique<CheckpointSaver>(
      group, directory / "checkpoints",
      SaveOptions{.keep_last = recipe.checkpoint.keep_last, .keep_every_steps = recipe.checkpoint.keep_every_steps});
  status->set_step(step);
  if (!beginning.checkpoint.empty()) status->set_checkpoint(beginning.checkpoint.string());
}

ExitStatus Trainer::Impl::run() {
  begin();
  if (step >= last_step) {
    say(fmt::format("{}: finished at step {}, nothing is left to do", directory.string(), step));
    return ExitStatus::ok;
  }
  const ModelCounts counts = count_model(recipe.model, engine->table(), recipe.data.sequence_length);
  say(fmt::format("{}: {} parameters ({} active), {} rank(s), {}, launch {}, {}", recipe.run.name, short_count(static_cast<double>(counts.parameters_total)),
                  short_count(static_cast<double>(counts.parameters_active)), group.size(), name_of(stream.isa()), beginning.launch,
                  beginning.checkpoint.empty() ? "from the beginning" : fmt::format("on from step {} ({})", step, beginning.checkpoint.string())));
  std::int64_t stop = 0;
  while (step < last_step && stop == 0) {
    train_step();
    if (due(recipe.evaluation.every) && step < last_step) evaluate_now();
    if (save_due() && step < last_step) save_now();
    if (std::optional<SaveOutcome> done = saver->poll()) settle(*done);
    stop = agreed_stop();
  }
  if (step == last_step && recipe.evaluation.at_end && validation->num_windows() > 0) evaluate_now();
  if (saver->pending()) settle(saver->finish());
  if (saved_step != step) {
    save_now();
    settle(saver->finish());
  }
  if (first) metrics->sync();
  if (step >= last_step) return ExitStatus::ok;
  say(fmt::format("stopped at step {} on {}; the same command goes on", step,
                  stop == 2 ? std::string("run.time") : std::string(StopSignals::name_of(static_cast<int>(stop - 100)))));
  return ExitStatus::stopped;
}

void Trainer::Impl::train_step() {
  const Clock::time_point begin = Clock::now();
  const StepPlan plan = loader->plan_step(position);
  const PhaseObserver observer = [this](Phase phase, std::int64_t at) { enter(phase, at); };
  const StepResult result = engine->step(*loader, plan, step + 1, static_cast<double>(tokens), observer);
  ++step;
  tokens += plan.num_targets;
  position = plan.next;
  report(result, seconds_since(begin));
}

void Trainer::Impl::report(const StepResult& r, double seconds) {
  status->set_step(step);
  if (!first) return;
  status->tick();
  StepMetrics m;
  m.step = step;
  m.tokens = tokens;
  m.loss = r.loss;
  m.grad_norm = r.grad_norm;
  m.learning_rate = r.learning_rate;
  m.step_seconds = seconds;
  m.tokens_per_second = static_cast<double>(r.targets) / seconds;
  m.mfu = meter->mfu(m.tokens_per_second);
  m.speed_of_light = meter->speed_of_light(m.tokens_per_second);
  m.expert_load_max_over_mean = r.expert_load_max_over_mean;
  m.launch = beginning.launch;
  if (recipe.model.num_nextn_predict_layers > 0) m.loss_mtp = r.loss_mtp;
  if (recipe.model.n_routed_experts > 0) m.loss_balance = r.loss_balance;
  metrics->append(m);

  const double keep = step_seconds == 0 ? 0 : 0.9;
  step_seconds = keep * step_seconds + (1 - keep) * seconds;
  tokens_per_second = keep * tokens_per_second + (1 - keep) * m.tokens_per_second;
  if (!due(recipe.logging.every) && step != last_step && step != beginning.step + 1) return;
  const std::string line = console_line({.step = step,
                                         .last_step = last_step,
                                         .loss = r.loss,
                                         .byte_tokens = recipe.data.tokenizer == "bytes",
                                         .grad_norm = r.grad_norm,
                                         .tokens_per_second = tokens_per_second,
                                         .of_machine = meter->mfu(tokens_per_second),
                                         .load = recipe.model.n_routed_experts > 0 ? r.expert_load_max_over_mean : 0,
                                         .seconds_left = step_seconds * static_cast<double>(last_step - step)});
  std::cerr << line << std::endl;
  log->info(line);
}

void Trainer::Impl::evaluate_now() {
  enter(Phase::evaluate, step);
  Context options_of_run;
  options_of_run.attention_block = engine->attention_block();
  const EvaluationResult e = evaluate(engine->model(), stream, options_of_run, *validation, group, recipe.evaluation.sequences,
                                      recipe.data.micro_batch_size);
  if (!first) return;
  Evaluation line{.step = step, .tokens = tokens, .launch = beginning.launch, .source = "", .figures = {}};
  line.figures = {{"loss", e.loss}, {"perplexity", e.perplexity()}, {"evaluated_tokens", static_cast<double>(e.tokens)}};
  if (e.bits_per_byte > 0) line.figures.emplace_back("bits_per_byte", e.bits_per_byte);
  if (recipe.model.num_nextn_predict_layers > 0) line.figures.emplace_back("loss_mtp", e.loss_mtp);
  evaluations->append(line);
  say(fmt::format("step {}/{}  held-out loss {:.3f}{}", step, last_step, e.loss,
                  e.bits_per_byte > 0 ? fmt::format(" ({:.3f} bits/byte)", e.bits_per_byte) : ""));
}

bool Trainer::Impl::save_due() {
  if (due(recipe.checkpoint.every_steps)) return true;
  if (recipe.checkpoint.every_seconds <= 0) return false;
  std::int64_t late = seconds_since(last_save) >= recipe.checkpoint.every_seconds;  // rank 0's clock decides for all
  group.broadcast(std::as_writable_bytes(std::span(&late, 1)), 0);
  return late != 0;
}

void Trainer::Impl::save_now() {
  if (saver->pending()) settle(saver->finish());
  enter(Phase::save, step);
  agreed(group, [&] {
    if (!first) return;
    lease->check();
    // What is in the logs at a commit is what a resume finds.
    metrics->sync();
    evaluations->sync();
  });
  CheckpointState state;
  state.step = step;
  state.tokens = tokens;
  state.training = training_state(position);
  state.recipe = to_yaml(recipe);
  state.info = fmt::format("{{\"ranks\":{},\"launch\":{}}}", group.size(), beginning.launch);
  const std::vector<Box> boxes = engine->boxes();
  saver->start(boxes, state);
  last_save = Clock::now();
}

void Trainer::Impl::settle(const SaveOutcome& outcome) {
  for (const std::string& w : outcome.warnings) warn(w);
  if (outcome.committed()) {
    saved_step = outcome.step;
    status->set_checkpoint(outcome.path.string());
    if (log) log->info(fmt::format("checkpoint {} root {} ({} bytes, stall {:.3f} s, write {:.3f} s)", outcome.path.string(), outcome.root,
                                   outcome.bytes, outcome.stall_seconds, outcome.write_seconds));
    return;
  }
  const bool bug = outcome.error->status() == ExitStatus::bug;
  if (bug || recipe.checkpoint.stop_on_failure || step >= last_step) throw *outcome.error;
  warn(fmt::format("the checkpoint of step {} was not saved: {}; training goes on, the older checkpoint stays", outcome.step, outcome.error->what()));
}

std::int64_t Trainer::Impl::agreed_stop() {
  std::int64_t wish = 0;
  if (const int signal = StopSignals::requested()) wish = 100 + signal;
  else if (recipe.run.time_seconds && seconds_since(launched) > *recipe.run.time_seconds) wish = 2;
  group.all_max(std::span(&wish, 1));
  return wish;
}

}  // namespace fourmi
