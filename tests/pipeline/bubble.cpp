// The bubble of a two-stage pipeline on two cores, measured beside the simulator's with the measured times of each
// stage's actions. Run by hand on an idle machine: bench_pipeline [schedule].
#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "framework/train/engine.h"
#include "tests/pipeline/pipeline_recipe.h"

namespace fourmi {
namespace {

constexpr int ranks = 2, warm_up = 2, steps = 6;

Recipe measured_recipe(std::string_view schedule) {
  Recipe r = with_pipeline(deep_recipe(Compute::bf16, Reproducibility::run), schedule, ranks);
  r.model.hidden_size = 256, r.model.intermediate_size = 512, r.model.moe_intermediate_size = 128;
  r.model.q_lora_rank = 96, r.model.kv_lora_rank = 64, r.model.qk_nope_head_dim = 32, r.model.v_head_dim = 32;
  r.model.qk_rope_head_dim = 16;
  r.data.sequence_length = r.model.max_position_embeddings = 256;
  return r;
}

using Done = std::vector<Pipeline::Done>;

/// By rank, the actions of one step after the warm-up, for each of the steps.
std::vector<std::vector<Done>> run(const Recipe& recipe) {
  auto groups = make_thread_groups("world", ranks);
  std::vector<std::vector<Done>> done(steps, std::vector<Done>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      ThreadPool pool(1);
      const Stream stream(pool);
      const Loader loader(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed,
                          recipe.model.vocab_size);
      const RankGroups mine = make_groups(recipe, *groups[static_cast<std::size_t>(rank)]);
      Engine engine(recipe, mine, stream);
      engine.initialise();
      StepPlan plan;
      Position position = loader.start();
      for (int s = 0; s < warm_up + steps; ++s) {
        loader.plan_step(position, plan);
        mine.world().barrier();
        engine.step(loader, plan, s + 1, 0, [](Phase, std::int64_t) {});
        position = plan.next;
        const auto span = engine.pipeline().done();
        if (s >= warm_up)
          done[static_cast<std::size_t>(s - warm_up)][static_cast<std::size_t>(rank)].assign(span.begin(), span.end());
      }
    });
  for (std::thread& t : threads) t.join();
  return done;
}

/// Mean seconds of each verb at each stage.
Times times_of(const StageMap& map, const std::vector<std::vector<Done>>& all) {
  Times times{.stages = {}};
  for (const StagePlace& place : map.places) {
    double sum[4] = {}, count[4] = {};
    for (const auto& step : all)
      for (const Pipeline::Done& d : step[static_cast<std::size_t>(place.rank)])
        if (d.pass.chunk == place.chunk) {
          sum[static_cast<int>(d.verb)] += static_cast<double>(d.end - d.begin) * 1e-9;
          ++count[static_cast<int>(d.verb)];
        }
    const auto mean = [&](Verb v) {
      return count[static_cast<int>(v)] > 0 ? sum[static_cast<int>(v)] / count[static_cast<int>(v)] : 0;
    };
    const bool whole = count[static_cast<int>(Verb::backward)] > 0;
    const double input = mean(Verb::backward_input), weight = mean(Verb::backward_weight);
    times.stages.push_back({mean(Verb::forward), whole ? mean(Verb::backward) - weight : input, weight});
  }
  return times;
}

void measure(std::string_view schedule) {
  const Recipe recipe = measured_recipe(schedule);
  const auto all = run(recipe);
  const StageMap map = stage_map(recipe);
  const Schedule list = schedule_of(recipe, 8);
  const Simulation sim = simulate(list, times_of(map, all));
  const auto idle = [](double makespan, double busy) { return 1 - busy / (makespan * ranks); };
  double busy = 0;
  for (double b : sim.busy) busy += b;
  std::vector<double> measured;
  for (const auto& step : all) {
    std::int64_t begin = step[0].front().begin, end = 0;
    double worked = 0;
    for (const Done& d : step) {
      begin = std::min(begin, d.front().begin), end = std::max(end, d.back().end);
      for (const Pipeline::Done& a : d) worked += static_cast<double>(a.end - a.begin);
    }
    measured.push_back(idle(static_cast<double>(end - begin), worked));
  }
  std::sort(measured.begin(), measured.end());
  fmt::print("{:<12} idle: simulated {:.4f}, measured {:.4f} (median of {}; {:.4f} to {:.4f})\n", schedule,
             idle(sim.makespan, busy), measured[measured.size() / 2], measured.size(), measured.front(),
             measured.back());
}

}  // namespace
}  // namespace fourmi

int main(int argc, char** argv) {
  for (std::string_view schedule : fourmi::schedules_that_train)
    if (argc < 2 || schedule == argv[1]) fourmi::measure(schedule);
}
