// `fourmi bench step`: steps of a recipe without a run directory: time, its split, and speed of light.
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "framework/data/loader.h"
#include "framework/interop/origin.h"
#include "framework/model/counts.h"
#include "framework/recipe/read.h"
#include "framework/run/machine.h"
#include "framework/tokenizer/choose.h"
#include "framework/train/engine.h"
#include "framework/train/trainer.h"
#include "launch/bench/bench.h"
#include "launch/run_device.h"
#include "parallel/group.h"
#include "parallel/launcher.h"

namespace fourmi::bench {

namespace {

/// Of mode layout, in multiples of mode run, steps in turn.
struct Price {
  double time = 1, memory = 1;
};

struct Result {
  Recipe recipe;
  int threads = 0;
  std::string isa, device;
  std::int64_t tokens = 0;  ///< of one step
  double flops = 0;         ///< that one step needs
  std::vector<double> seconds, losses;
  std::array<double, num_works> split{};  ///< seconds of a step, mean
  std::optional<Limits> limits;           ///< of the CPU
  std::optional<Price> price;
};

double speed_of_light(const Result& r, double seconds) {
  const double limit = r.recipe.precision.compute != Compute::fp32 ? r.limits->bf16 : r.limits->fp32;
  return r.flops / limit / seconds;
}

/// A model in training, a step at a time.
class Steps {
 public:
  Steps(const Recipe& recipe, const std::vector<LoadedSource>& sources, const Stream& stream)
      : loader_(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size),
        group_(make_self_group("bench")),
        ranks_(*group_),
        engine_(recipe, ranks_, stream),
        position_(loader_.start()) {
    engine_.initialise();
  }

  const Engine& engine() const { return engine_; }
  /// The seconds of one step; its input tokens and its loss.
  double one(Timeline& timeline, std::int64_t& tokens, double& loss) {
    timeline.begin_step();
    const StepPlan plan = loader_.plan_step(position_);
    loss = engine_.step(loader_, plan, ++number_, tokens_, [](Phase, std::int64_t) {}).loss;
    timeline.end_step();
    tokens = plan.num_inputs;
    tokens_ += static_cast<double>(plan.num_inputs);
    position_ = plan.next;
    return static_cast<double>(timeline.step_nanoseconds()) * 1e-9;
  }
  double bytes() const {
    double sum = 0;
    for (const auto& [name, size] : engine_.arenas().sizes()) sum += static_cast<double>(size);
    return sum;
  }

 private:
  Loader loader_;
  std::unique_ptr<Group> group_;
  RankGroups ranks_;
  Engine engine_;
  Position position_;
  double tokens_ = 0;
  std::int64_t number_ = 0;
};

Result measure(const StepOptions& o) {
  Result r;
  r.recipe = load_recipe(o.recipe, o.overrides, 1, interop::origins());
  require_trainable(r.recipe);
  const interop::VocabularyFiles vocabulary(r.recipe.data, {});
  if (!r.recipe.data.tokenizer_file.empty()) pin_tokenizer(r.recipe.data, {});
  r.threads = r.recipe.run.threads > 0 ? static_cast<int>(r.recipe.run.threads) : usable_cores();
  ThreadPool pool(r.threads);
  const std::unique_ptr<Group> alone = make_self_group("bench");
  const RunDevice device(r.recipe, {}, *alone);
  Timeline timeline;
  const Stream stream = device.stream(pool, &timeline);
  if (stream.device()) timeline.follow(*stream.device());
  r.device = device.name();
  r.isa = name_of(stream.isa());
  const std::vector<LoadedSource> sources = load_sources(r.recipe.data.train, "data.train");
  Steps steps(r.recipe, sources, stream);
  Recipe plain_recipe = r.recipe;
  plain_recipe.run.reproducibility = Reproducibility::run;
  std::optional<Steps> plain;
  if (r.recipe.run.reproducibility == Reproducibility::layout) plain.emplace(plain_recipe, sources, stream);
  const ModelCounts counts = count_model(r.recipe.model, steps.engine().table(), r.recipe.data.sequence_length);
  std::optional<LimitMeter> meter;
  if (device.is_cpu()) meter.emplace(stream);
  std::vector<double> plain_seconds;
  for (int i = 1; i <= o.warm_up + o.steps; ++i) {
    if (meter) meter->measure(false);
    double loss = 0;
    if (plain) plain_seconds.push_back(plain->one(timeline, r.tokens, loss));
    const double seconds = steps.one(timeline, r.tokens, loss);
    if (i <= o.warm_up) {
      plain_seconds.clear();
      continue;
    }
    r.seconds.push_back(seconds);
    r.losses.push_back(loss);
    for (std::size_t w = 0; w < num_works; ++w)
      r.split[w] += static_cast<double>(timeline.nanoseconds()[w]) * 1e-9 / o.steps;
  }
  if (meter) {
    meter->measure(false);
    r.limits = meter->limits();
  }
  r.flops = (counts.flops_per_token + counts.flops_per_token_mtp) * static_cast<double>(r.tokens);
  if (plain)
    r.price = Price{spread_of(r.seconds).median / spread_of(plain_seconds).median, steps.bytes() / plain->bytes()};
  return r;
}

void print_json(const Result& r) {
  const Spread s = spread_of(r.seconds);
  nlohmann::ordered_json j, split;
  for (std::size_t w = 0; w < num_works; ++w)
    if (r.split[w] > 0) split[std::string(name_of(static_cast<Work>(w)))] = r.split[w];
  j["recipe"] = r.recipe.run.name;
  j["threads"] = r.threads;
  j["device"] = r.device;
  j["instruction_set"] = r.isa;
  j["tokens_per_step"] = r.tokens;
  j["flops_per_step"] = r.flops;
  j["step_seconds"] = r.seconds;
  j["losses"] = r.losses;
  j["median_seconds"] = s.median;
  j["tokens_per_second"] = static_cast<double>(r.tokens) / s.median;
  if (r.limits) {
    j["limit_flops_bf16"] = r.limits->bf16;
    j["limit_flops_fp32"] = r.limits->fp32;
    j["speed_of_light"] = speed_of_light(r, s.median);
  }
  j["seconds_by_work"] = split;
  if (r.price) j["price_of_layout"] = {{"time", r.price->time}, {"memory", r.price->memory}};
  std::cout << j << "\n";
}

void print_text(const Result& r) {
  const Spread s = spread_of(r.seconds);
  std::cout << fmt::format(
      "{}: {} steps of {} tokens, {}\n"
      "step           {:8.3f} s median, {:.3f} to {:.3f}\n"
      "tokens/s       {:8.0f}\n"
      "needed work    {:8.1f} GFLOP a step (causal, nothing twice, no padding)\n",
      r.recipe.run.name, r.seconds.size(), r.tokens,
      r.limits ? fmt::format("{} thread(s), {}", r.threads, r.isa) : r.device, s.median, s.low, s.high,
      static_cast<double>(r.tokens) / s.median, r.flops * 1e-9);
  if (r.limits)
    std::cout << fmt::format(
        "limit          {:8.1f} GFLOP/s bf16, {:.1f} fp32, measured between the steps, registers only\n"
        "speed of light {:8.1f} %\n",
        r.limits->bf16 * 1e-9, r.limits->fp32 * 1e-9, 100 * speed_of_light(r, s.median));
  std::cout << "\n";
  double all = 0;
  for (double seconds : r.split) all += seconds;
  for (std::size_t w = 0; w < num_works; ++w)
    if (r.split[w] > 0)
      std::cout << fmt::format("{:<14} {:8.3f} s {:6.1f} %\n", name_of(static_cast<Work>(w)), r.split[w],
                               100 * r.split[w] / all);
  if (r.price)
    std::cout << fmt::format("\nmode layout takes {:.2f} times the time and {:.2f} times the memory of mode run\n",
                             r.price->time, r.price->memory);
}

}  // namespace

void run_step(const StepOptions& options) {
  if (read_launcher().size > 1)
    throw Error(ExitStatus::usage, "fourmi bench step", fmt::format("{} ranks, expected one", read_launcher().size),
                "Start it without a launcher; fourmi train reports the speed of several ranks");
  const Result r = measure(options);
  options.json ? print_json(r) : print_text(r);
}

}  // namespace fourmi::bench
