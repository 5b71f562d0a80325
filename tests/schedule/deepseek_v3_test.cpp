// A published step of a large run beside the simulator: DeepSeek-V3 on 2,048 GPUs, 16 stages under DualPipe. What is
// read from the table and what is predicted is told in docs/simulator.md.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "parallel/schedule/simulate.h"

namespace fourmi {
namespace {

/// "Insights into DeepSeek-V3", table 4, multi-plane network: seconds of one step.
constexpr Phases published{.forward = 1.13, .backward = 1.99, .weight = 0.48, .steady = 13.95, .bubble = 2.06};
constexpr double published_step = 19.926, published_optimizer = 0.29;
constexpr double published_tokens_a_day = 272.8e9;
constexpr double bar = 0.15;

constexpr int num_gpus = 2048, num_ranks = 16, sequence = 4096, batch = 15360, hidden = 7168;
constexpr int num_layers = 61, layers_of_a_chunk = 4;

int num_micro_batches() {
  return batch / (num_gpus / num_ranks);
}

/// Mflop a token of the forward at 4,096 tokens: a layer of experts (a dense one has as many), and what is beside
/// layers on the last stage, in layers.
double layers_beside_the_last() {
  constexpr double layer = 374.2 + 167.8 + 792.7, head = 2e-6 * hidden * 129280, joined = 2e-6 * 2 * hidden * hidden;
  constexpr double next_token = head, token_after = joined + layer + head;
  return (next_token + token_after) / layer;
}

/// Of each stage, in chunks of 4 layers.
std::vector<double> even_stages() {
  return std::vector<double>(num_ranks, 1);
}

std::vector<double> whole_layers() {
  std::vector<double> loads(num_ranks, 1);
  const int rest = num_layers - (num_ranks - 1) * layers_of_a_chunk;
  loads.back() = (rest + layers_beside_the_last()) / layers_of_a_chunk;
  return loads;
}

struct Setting {
  std::vector<double> loads;
  double transfer = 0;
  int rank = -1;  ///< of which the table is read; -1: the mean of all
};

Times times_of(const Setting& s, const StageTimes& one, double pair) {
  Times t{.stages = {}, .pair = pair, .transfer = s.transfer};
  for (double load : s.loads)
    t.stages.push_back({load * one.forward, load * one.backward_input, load * one.backward_weight});
  return t;
}

Phases phases_of(const Setting& s, const StageTimes& one, double pair) {
  const Schedule schedule = make_schedule("dualpipe", num_ranks, 1, num_micro_batches());
  const std::vector<Phases> ranks = phases(schedule, simulate(schedule, times_of(s, one, pair)));
  return s.rank < 0 ? mean(ranks) : ranks[static_cast<std::size_t>(s.rank)];
}

/// Seconds of a chunk of four layers that make the phases of what is done alone those of the table. All of them are
/// linear in these times.
StageTimes chunk_times(const Setting& s) {
  const Phases f = phases_of(s, {1, 0, 0}, 1), i = phases_of(s, {0, 1, 0}, 1), w = phases_of(s, {0, 0, 1}, 1);
  StageTimes t;
  t.forward = published.forward / f.forward;
  t.backward_weight = published.weight / w.weight;
  t.backward_input = (published.backward - w.backward * t.backward_weight) / i.backward;
  return t;
}

double off(double simulated, double from) {
  return simulated / from - 1;
}

Phases told(const char* what, const Setting& s, const StageTimes& one, double pair) {
  const Phases p = phases_of(s, one, pair);
  fmt::print(
      "{}: F {:.1f} I {:.1f} W {:.1f} ms, pair {:.3f}; steady {:.2f} ({:+.1f}%) bubble {:.2f} ({:+.1f}%) "
      "step {:.2f} ({:+.1f}%)\n",
      what, one.forward * 1e3, one.backward_input * 1e3, one.backward_weight * 1e3, pair, p.steady,
      100 * off(p.steady, published.steady), p.bubble, 100 * off(p.bubble, published.bubble),
      p.sum() + published_optimizer, 100 * off(p.sum() + published_optimizer, published_step));
  return p;
}

TEST(DeepSeekV3, TheTableHoldsTogether) {
  EXPECT_EQ(num_micro_batches(), 120);
  EXPECT_NEAR(published_tokens_a_day / 86400 * published_step, double{batch} * sequence, 1e-3 * batch * sequence);
  EXPECT_NEAR(published.sum() + published_optimizer, published_step, 0.03) << "its phases are shares of one step";
}

/// The one reading in which every column is of the same ranks, all of them.
TEST(DeepSeekV3, IsSimulatedWithinTheBars) {
  const double message = 2.0 * sequence * hidden / 50e9;  // bf16, through one GPU's share of the network
  const Setting s{.loads = whole_layers(), .transfer = message};
  const StageTimes one = chunk_times(s);
  const double pair = published.steady / phases_of(s, one, 1).steady;
  const Phases p = told("mean of ranks, whole layers", s, one, pair);
  // What was put in.
  EXPECT_NEAR(p.forward, published.forward, 1e-9);
  EXPECT_NEAR(p.backward, published.backward, 1e-9);
  EXPECT_NEAR(p.weight, published.weight, 1e-9);
  EXPECT_NEAR(p.steady, published.steady, 1e-9);
  // What comes out.
  EXPECT_LT(std::abs(off(p.bubble, published.bubble)), bar);
  EXPECT_LT(std::abs(off(p.sum() + published_optimizer, published_step)), bar);
  EXPECT_LT(pair, 1) << "pairs hide something";
}

/// The table as that of an end of the pipeline, pairs as long as their halves one after the other: then the length of
/// the steady phase is a prediction, and the number of micro-batches is seen to be the right one.
TEST(DeepSeekV3, ItsSteadyPhaseFollowsFromWhatIsDoneAlone) {
  const Setting s{.loads = even_stages(), .transfer = 0, .rank = 0};
  const Phases p = told("rank 0, even stages", s, chunk_times(s), 1);
  EXPECT_LT(std::abs(off(p.steady, published.steady)), bar);
  EXPECT_LT(std::abs(off(p.sum() + published_optimizer, published_step)), bar);
  // Stages without a difference have a smaller bubble than the run: it is the uneven stages that make the rest.
  EXPECT_LT(p.bubble, (1 - bar) * published.bubble);
}

TEST(Phases, SumUpToTheStep) {
  const Schedule s = make_schedule("dualpipev", 4, 1, 12);
  const Simulation sim = simulate(s, {.stages = {{1, 1.5, 0.5}}, .pair = 0.8, .transfer = 0.1});
  const std::vector<Phases> ranks = phases(s, sim);
  double pairs = 0;
  for (const Action& a : s.actions[0]) pairs += a.verb == Verb::pair;
  EXPECT_NEAR(ranks[0].steady, pairs * 0.8 * 3, 1e-9);
  for (const Phases& p : ranks) EXPECT_NEAR(p.sum(), sim.makespan, 1e-9);
  EXPECT_NEAR(mean(ranks).sum(), sim.makespan, 1e-9);
  EXPECT_GT(ranks[0].forward, ranks[3].forward) << "the first rank fills the pipeline";
}

}  // namespace
}  // namespace fourmi
