#include "framework/train/reporting.h"

#include <algorithm>

#include "framework/telemetry/time_split.h"

namespace fourmi {

Reporting::Reporting(const RunContext& context, Narrator& narrator, const ParameterTable& table)
    : context_(context),
      narrator_(narrator),
      counts_(count_model(context.recipe.model, table, context.recipe.data.sequence_length)),
      meter_(context.recipe, counts_, peak_of(context.group, context.stream)) {}

void Reporting::open(std::int64_t step, std::int64_t launch) {
  const Warn warn = [this](const std::string& text) { narrator_.warn(text); };
  metrics_ = std::make_unique<MetricsLog>(context_.directory, step, warn);
  evaluations_ = std::make_unique<EvaluationLog>(context_.directory, step, warn);
  const LoggingSection& logging = context_.recipe.logging;
  // Lines of steps that are done again are put aside even if no more are written.
  const bool experts = logging.expert_load_every > 0 && context_.recipe.model.n_routed_experts > 0;
  if (experts || std::filesystem::exists(context_.directory / "expert_load.jsonl"))
    expert_load_ = std::make_unique<StepLog>(context_.directory, "expert_load", StepLog::Steps::any, step, warn);
  if (promotes(context_.recipe) || std::filesystem::exists(context_.directory / "precision.jsonl"))
    precision_ = std::make_unique<StepLog>(context_.directory, "precision", StepLog::Steps::any, step, warn);
  if (logging.tensorboard) tensorboard_ = std::make_unique<TensorBoard>(context_.directory, step, launch, warn);
}

void Reporting::introduce(const Progress& p, const std::string& checkpoint) {
  DeviceStream* const device = context_.stream.device();
  narrator_.say(
      fmt::format("{}: {} parameters ({} active), {} rank(s), {}, launch {}, {}", context_.recipe.run.name,
                  short_count(static_cast<double>(counts_.parameters_total)),
                  short_count(static_cast<double>(counts_.parameters_active)), context_.group.size(),
                  device ? device->runtime().name() : std::string(name_of(context_.stream.isa())), p.launch,
                  checkpoint.empty() ? "from the beginning" : fmt::format("on from step {} ({})", p.step, checkpoint)));
}

namespace {
/// sent_bytes, group_calls and each group's part; nothing where this rank is alone.
void add_traffic(const std::vector<GroupTraffic>& traffic, std::vector<std::pair<std::string, double>>& figures) {
  if (traffic.empty()) return;
  Traffic all;
  for (const GroupTraffic& g : traffic) all.calls += g.total().calls, all.bytes += g.total().bytes;
  figures.emplace_back("sent_bytes", static_cast<double>(all.bytes));
  figures.emplace_back("group_calls", static_cast<double>(all.calls));
  for (const GroupTraffic& g : traffic) {
    if (g.total() == Traffic{}) continue;
    std::string key = "sent_bytes_" + g.group;
    std::replace(key.begin(), key.end(), ' ', '_');
    figures.emplace_back(key, static_cast<double>(g.total().bytes));
  }
}
}  // namespace

void Reporting::step(const Progress& p, const StepResult& r, const std::vector<GroupTraffic>& traffic, double seconds,
                     double stall_seconds) {
  if (!context_.first()) return;
  const Recipe& recipe = context_.recipe;
  StepMetrics m;
  m.step = p.step;
  m.tokens = p.tokens;
  m.loss = r.loss;
  m.grad_norm = r.grad_norm;
  m.learning_rate = r.learning_rate;
  m.step_seconds = seconds;
  m.tokens_per_second = static_cast<double>(r.tokens) / seconds;
  m.mfu = meter_.mfu(m.tokens_per_second);
  m.speed_of_light = meter_.speed_of_light(m.tokens_per_second);
  m.expert_load_max_over_mean = r.expert_load_max_over_mean;
  m.launch = p.launch;
  if (recipe.model.num_nextn_predict_layers > 0) m.loss_mtp = r.loss_mtp;
  if (recipe.model.n_routed_experts > 0) m.loss_balance = r.loss_balance;
  if (recipe.distill.learns_logits()) m.more.emplace_back("loss_distill", r.loss_distill);
  if (recipe.distill.student_writes()) {
    m.more.emplace_back("tokens_written", static_cast<double>(r.tokens_written));
    m.more.emplace_back("writing_seconds", r.writing_seconds);
  }
  if (const Timeline* timeline = context_.stream.timeline()) {
    const auto figures = time_figures(timeline->nanoseconds());
    m.more.insert(m.more.end(), figures.begin(), figures.end());
  }
  m.more.insert(m.more.end(), also_.begin(), also_.end());
  m.more.emplace_back("stall_seconds", stall_seconds);
  add_traffic(traffic, m.more);
  const double hours = context_.spending->hours();
  m.more.emplace_back("device_hours", hours);
  if (const auto cost = Spending::cost_of(recipe.budget, hours)) m.more.emplace_back("cost", *cost);
  if (!r.updated) m.more.emplace_back("skipped", 1);
  if (r.spike_z > 0) m.more.emplace_back("spike_z", r.spike_z);
  if (r.precision.step == p.step) {
    m.more.emplace_back("precision_loss_gap", r.precision.loss_gap);
    m.more.emplace_back("precision_gradient_gap", r.precision.gradient_gap);
    m.more.emplace_back("precision_operand_error", r.precision.operand_error);
  }
  if (r.num_promoted > 0) m.more.emplace_back("layers_in_bf16", static_cast<double>(r.num_promoted));
  metrics_->append(m);

  const double keep = step_seconds_ == 0 ? 0 : 0.9;
  step_seconds_ = keep * step_seconds_ + (1 - keep) * seconds;
  tokens_per_second_ = keep * tokens_per_second_ + (1 - keep) * m.tokens_per_second;
  const bool said = p.due(recipe.logging.every) || p.done() || p.step == p.started_at + 1;
  if (tensorboard_)
    tensorboard_->add_line(to_json_line(m), {}, said ? TensorBoard::Figures::all : TensorBoard::Figures::train);
  const ConsoleStep line{.step = p.step,
                         .last_step = p.last_step,
                         .loss = r.loss,
                         .byte_tokens = recipe.data.tokenizer == "bytes",
                         .distill = recipe.distill.learns_logits() ? std::optional(r.loss_distill) : std::nullopt,
                         .grad_norm = r.grad_norm,
                         .tokens_per_second = tokens_per_second_,
                         .of_machine = meter_.mfu(tokens_per_second_),
                         .load = recipe.model.n_routed_experts > 0 ? r.expert_load_max_over_mean : 0,
                         .dead_experts = dead_experts_,
                         .seconds_left = step_seconds_ * static_cast<double>(p.last_step - p.step),
                         .spent = context_.spending->text()};
  if (said) narrator_.say(console_line(line));
  narrator_.progress(p.step, p.last_step, bar_text(line));
}

void Reporting::expert_load(const Progress& p, const LoadSummary& load) {
  dead_experts_ = load.dead();
  expert_load_->append(to_json_line(p.step, p.launch, load));
  if (tensorboard_) tensorboard_->add(p.step, to_scalars(load));
}

void Reporting::precision(const PrecisionFigures& figures, std::int64_t launch, const Engine& engine) {
  if (context_.first()) precision_->append(to_json_line(figures, launch, engine.maps(), engine.operand_statistics()));
}

void Reporting::evaluation(const Progress& p, const EvaluationResult& e) {
  if (!context_.first()) return;
  Evaluation line{.step = p.step, .tokens = p.tokens, .launch = p.launch, .source = "", .figures = {}};
  line.figures = {
      {"loss", e.loss}, {"perplexity", e.perplexity()}, {"evaluated_tokens", static_cast<double>(e.tokens)}};
  if (e.bits_per_byte > 0) line.figures.emplace_back("bits_per_byte", e.bits_per_byte);
  if (context_.recipe.model.num_nextn_predict_layers > 0) line.figures.emplace_back("loss_mtp", e.loss_mtp);
  evaluations_->append(line);
  if (tensorboard_) tensorboard_->add_line(to_json_line(line), "evaluation/");
  narrator_.say(fmt::format("step {}/{}  held-out loss {:.3f}{}", p.step, p.last_step, e.loss,
                            e.bits_per_byte > 0 ? fmt::format(" ({:.3f} bits/byte)", e.bits_per_byte) : ""));
}

void Reporting::conclude() {
  narrator_.end_progress();
  Timeline* timeline = context_.stream.timeline();
  if (!context_.first() || !timeline) return;
  const std::string split = time_text(timeline->total());
  if (!split.empty()) narrator_.say("time: " + split);
}

void Reporting::sync() {
  if (metrics_) metrics_->sync();
  if (expert_load_) expert_load_->sync();
  if (precision_) precision_->sync();
  if (evaluations_) evaluations_->sync();
}

}  // namespace fourmi
