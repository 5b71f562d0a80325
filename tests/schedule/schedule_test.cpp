// Every schedule: complete, free of deadlock, with the bubble and the memory that were published for it where those
// hold.
#include "parallel/schedule/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "kernels/runtime/error.h"
#include "parallel/schedule/draw.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/transfers.h"

namespace fourmi {
namespace {

constexpr int ranks_tried[] = {1, 2, 3, 4, 5, 8, 16};

int least_micro_batches(std::string_view name, int num_ranks) {
  return name == "dualpipe" || name == "dualpipev" ? 2 * num_ranks : 1;
}

bool legal(std::string_view name, int num_ranks, int num_micro_batches) {
  if (num_micro_batches < least_micro_batches(name, num_ranks)) return false;
  if (name == "dualpipe") return num_ranks % 2 == 0 && num_micro_batches % 2 == 0;
  return name != "interleaved" || num_micro_batches % num_ranks == 0;
}

int chunks_of(std::string_view name) {
  return name == "interleaved" ? 2 : 1;
}

void for_all(const std::function<void(const Schedule&)>& body) {
  for (std::string_view name : schedule_names())
    for (int ranks : ranks_tried)
      for (int m :
           {1, 2, 3, ranks - 1, ranks, ranks + 1, 2 * ranks, 2 * ranks + 1, 2 * ranks + 2, 3 * ranks, 5 * ranks})
        for (const bool paired : {false, true})
          if (m >= 1 && legal(name, ranks, m) && (!paired || name == "interleaved")) {
            SCOPED_TRACE(fmt::format("{} of {} ranks, {} micro-batches, {}", name, ranks, m, paired));
            body(make_schedule(name, ranks, chunks_of(name), m, paired));
          }
}

TEST(Schedule, DoesEverythingOnceAndNeverStandsStill) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> time(0.2, 2.0);
  for_all([&](const Schedule& s) {
    EXPECT_NO_THROW(check_complete(s));
    EXPECT_NO_THROW(simulate(s));
    Times uneven{.stages = {}, .pair = 0.8, .transfer = 0.3};
    for (int i = 0; i < s.num_stages(); ++i) uneven.stages.push_back({time(random), time(random), time(random)});
    EXPECT_NO_THROW(simulate(s, uneven));
  });
}

TEST(Schedule, NoBubbleIsLargerThanThatOfOneForwardOneBackward) {
  for_all([&](const Schedule& s) {
    if (s.name == "gpipe") return;
    // The same layers: a rank with two chunks has half of its layers in each.
    const double stage = 1.0 / s.num_chunks;
    if (s.name == "dualpipe") return;  // it holds every stage twice: compared by its formula below
    const double bubble = simulate(s, {.stages = {{stage, stage, stage}}}).largest_bubble();
    EXPECT_LE(bubble, 3.0 * (s.num_ranks - 1) + 1e-9);
  });
}

struct Published {
  std::string_view name;
  int chunks;
  double (*bubble)(double ranks, double chunks);  ///< largest, for F = B_input = W = 1 a stage
  int (*activations)(int ranks, int chunks);      ///< largest, in chunks, weight half included
};

const Published published[] = {
    {"1f1b", 1, [](double p, double) { return (p - 1) * 3; }, [](int p, int) { return p; }},
    {"interleaved", 2, [](double p, double) { return (p - 1) * 3; }, [](int p, int v) { return p * v + p - 1; }},
    {"interleaved", 4, [](double p, double) { return (p - 1) * 3; }, [](int p, int v) { return p * v + p - 1; }},
    {"zb-h1", 1, [](double p, double) { return p - 1; }, [](int p, int) { return p; }},
    {"zb-v", 2, [](double p, double) { return p - 1; }, [](int p, int) { return 2 * p; }},
    {"dualpipe", 2, [](double p, double) { return (p / 2 - 1) * (3 + 2 - 3); }, [](int p, int) { return p + 1; }},
    {"dualpipev", 2, [](double p, double) { return (p - 1) * (3 + 2 - 3); }, [](int p, int) { return 2 * p + 1; }},
};

TEST(Schedule, HasThePublishedBubbleAndMemory) {
  for (const Published& expected : published)
    for (int ranks : {2, 4, 8, 16})
      for (int m : {3 * ranks, 4 * ranks, 6 * ranks}) {
        SCOPED_TRACE(
            fmt::format("{} of {} ranks, {} chunks, {} micro-batches", expected.name, ranks, expected.chunks, m));
        const int chunks = expected.name == "interleaved" ? expected.chunks : 1;
        const Simulation sim = simulate(make_schedule(expected.name, ranks, chunks, m));
        EXPECT_EQ(sim.largest_bubble(), expected.bubble(ranks, expected.chunks));
        // Of what is kept until the input's half: until then all of an activation is needed.
        const auto& peaks =
            expected.name == "zb-h1" || expected.name == "zb-v" ? sim.peak_activations : sim.peak_inputs;
        EXPECT_EQ(*std::max_element(peaks.begin(), peaks.end()), expected.activations(ranks, expected.chunks));
      }
}

TEST(Schedule, GPipeKeepsAllAndWaitsForAll) {
  const Simulation sim = simulate(make_schedule("gpipe", 4, 1, 6));
  EXPECT_EQ(sim.makespan, (6 + 4 - 1) * 3);
  for (int peak : sim.peak_activations) EXPECT_EQ(peak, 6);
}

TEST(Schedule, ZeroBubbleVHasNoGapsOnceItRuns) {
  for (int ranks : {2, 4, 8, 16}) {
    const Schedule s = make_schedule("zb-v", ranks, 1, 3 * ranks);
    const Simulation sim = simulate(s);
    EXPECT_EQ(sim.gaps(ranks - 1), 0) << ranks;
    EXPECT_EQ(sim.makespan, 6 * 3 * ranks + ranks - 1)
        << "no schedule is shorter: the last rank begins after the others' forwards";
  }
}

TEST(Schedule, OverlapShortensPairs) {
  const Schedule s = make_schedule("dualpipev", 4, 1, 16);
  const double apart = simulate(s).makespan,
               together = simulate(s, {.stages = {{}}, .pair = 0.7, .transfer = 0}).makespan;
  std::size_t pairs = 0;
  for (const Action& a : s.actions[0]) pairs += a.verb == Verb::pair;
  EXPECT_NEAR(apart - together, 0.3 * 3 * static_cast<double>(pairs), 6);
  EXPECT_LT(together, apart);
}

TEST(Schedule, PairsMayHaveTimesOfTheirOwn) {
  const Schedule s = make_schedule("dualpipev", 2, 1, 16);
  const std::vector<StageTimes> stages{{1, 1, 1}, {2, 2, 2}, {3, 3, 3}, {4, 4, 4}};
  Times times{.stages = stages, .pair = 0.7};
  const double by_share = simulate(s, times).makespan;
  for (const StageTimes& f : stages) {
    times.pairs.emplace_back();
    for (const StageTimes& b : stages) times.pairs.back().push_back(0.7 * (f.forward + b.backward()));
  }
  times.pair = 1;
  EXPECT_NEAR(simulate(s, times).makespan, by_share, 1e-9);
  // One by one: a single pair that takes 5 longer on the rank that idles least delays the step by as much at most.
  for (const auto& list : s.actions) times.actions.emplace_back(list.size(), -1.0);
  EXPECT_NEAR(simulate(s, times).makespan, by_share, 1e-9);
  const auto pair =
      std::find_if(s.actions[0].begin(), s.actions[0].end(), [](const Action& a) { return a.verb == Verb::pair; });
  times.actions[0][static_cast<std::size_t>(pair - s.actions[0].begin())] = by_share;
  const double late = simulate(s, times).makespan;
  EXPECT_GT(late, 1.5 * by_share);
  EXPECT_LT(late, 2 * by_share);
  times.pairs.pop_back();
  EXPECT_THROW(simulate(s, times), Error);
}

TEST(Schedule, PairsInTurnAreTwoActions) {
  for (const char* name : {"dualpipev", "dualpipe"}) {
    const Schedule s = make_schedule(name, 4, 1, 16), apart = with_pairs_in_turn(s);
    EXPECT_NO_THROW(check_complete(apart));
    for (const auto& list : apart.actions)
      for (const Action& a : list) EXPECT_NE(a.verb, Verb::pair);
    // A forward need not wait for what its pair's backward waits for.
    EXPECT_LE(simulate(apart).makespan, simulate(s).makespan);
  }
}

TEST(Schedule, ABackwardAtOnceMayDifferFromItsHalves) {
  const Schedule s = make_schedule("1f1b", 1, 1, 3);
  EXPECT_EQ(simulate(s, {.stages = {{1, 2, 3}}}).makespan, 3 * 6);
  EXPECT_EQ(simulate(s, {.stages = {{1, 2, 3, 4}}}).makespan, 3 * 5);
}

// One forward more before the first backward, and no halves of a turn need one another: the bubble is that of halves
// done in turn, for the activations of one stage more.
TEST(Schedule, InterleavedHasPairsThatCostNoTime) {
  for (int ranks : {2, 3, 4, 5, 6, 7, 8})
    for (int chunks : {1, 2, 3, 4})
      for (int m : {ranks, 2 * ranks, 3 * ranks, 4 * ranks}) {
        SCOPED_TRACE(fmt::format("{} ranks, {} chunks, {} micro-batches", ranks, chunks, m));
        const Schedule alone = make_schedule("interleaved", ranks, chunks, m),
                       paired = make_schedule("interleaved", ranks, chunks, m, true);
        EXPECT_NO_THROW(check_complete(paired));
        for (const StageTimes& times : {StageTimes{1, 1, 1}, StageTimes{1, 1, 0}, StageTimes{1, 2, 1}}) {
          const Simulation sim = simulate(paired, {.stages = {times}});
          EXPECT_LE(sim.makespan, simulate(alone, {.stages = {times}}).makespan + 1e-9);
          // Where pairs hide a fifth of what halves cost the step is shorter by what the rank with fewest pairs hides.
          const double pair = 0.2 * (times.forward + times.backward_input + times.backward_weight);
          const std::ptrdiff_t fewest = std::max(0, chunks * m - 2 * (ranks - 1) - (chunks - 1) * ranks - 1);
          EXPECT_LE(simulate(paired, {.stages = {times}, .pair = 0.8}).makespan,
                    sim.makespan - pair * static_cast<double>(fewest) + 1e-9);
        }
        const Simulation sim = simulate(paired);
        for (int r = 0; r < ranks; ++r) {
          const int before = 2 * (ranks - 1 - r) + (chunks - 1) * ranks + 1, total = chunks * m;
          const auto& list = paired.actions[static_cast<std::size_t>(r)];
          EXPECT_EQ(std::count_if(list.begin(), list.end(), [](const Action& a) { return a.verb == Verb::pair; }),
                    std::max(0, total - before));
          EXPECT_EQ(sim.peak_activations[static_cast<std::size_t>(r)], std::min(total, before + 1));
          if (m > ranks) {
            EXPECT_LE(sim.peak_activations[static_cast<std::size_t>(r)],
                      simulate(alone).peak_activations[static_cast<std::size_t>(r)] + 1);
          }
        }
      }
}

TEST(Schedule, APairOfOnePassIsNone) {
  Schedule s = make_schedule("interleaved", 2, 2, 4, true);
  auto& list = s.actions.back();
  const auto first = std::find_if(list.begin(), list.end(), [](const Action& a) { return a.verb == Verb::pair; });
  // Its backward's forward is done in the pair itself.
  first->pass = first->behind;
  list.erase(std::find(list.begin(), first, Action{Verb::forward, first->behind, {}}));
  EXPECT_THROW(check_complete(s), Error);
}

TEST(Schedule, MessagesOfAChannelAreReceivedAsTheyAreSent) {
  for_all([&](const Schedule& s) {
    const auto lists = with_transfers(s);
    for (int from = 0; from < s.num_ranks; ++from)
      for (int to = 0; to < s.num_ranks; ++to) {
        std::vector<Message> sent, received;
        for (const Step& step : lists[static_cast<std::size_t>(from)])
          if (step.kind == Step::Kind::send && step.message.to == to) sent.push_back(step.message);
        for (const Step& step : lists[static_cast<std::size_t>(to)])
          if (step.kind == Step::Kind::receive && step.message.from == from) received.push_back(step.message);
        EXPECT_EQ(sent, received) << from << " to " << to;
      }
  });
}

TEST(Schedule, AStandstillNamesWhoWaitsForWhat) {
  Schedule s = make_schedule("1f1b", 2, 1, 2);
  std::swap(s.actions[0].front(), s.actions[0].back());  // rank 0 begins with the last backward
  try {
    simulate(s);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("rank 0 waits for the gradient of stage 0, micro-batch 0, from rank 1"),
              std::string::npos)
        << e.what();
    EXPECT_NE(std::string(e.what()).find("rank 1 waits for the output of stage 0, micro-batch 1, from rank 0"),
              std::string::npos)
        << e.what();
  }
  s.actions[0].pop_back();
  EXPECT_THROW(check_complete(s), Error);
}

std::string refusal(std::string_view name, int ranks, int chunks, int m) {
  try {
    make_schedule(name, ranks, chunks, m);
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::usage);
    return e.what();
  }
  return "accepted";
}

TEST(Schedule, SizesThatItCannotHaveAreRefusedWithTheNextOnesThatItCan) {
  EXPECT_NE(refusal("interleaved", 4, 2, 6).find("a multiple of the ranks, 8 for example"), std::string::npos);
  EXPECT_NE(refusal("dualpipe", 3, 1, 12).find("Take 2 or 4 ranks, or dualpipev"), std::string::npos);
  EXPECT_NE(refusal("dualpipe", 4, 1, 9).find("10 for example"), std::string::npos);
  EXPECT_NE(refusal("dualpipev", 4, 1, 7).find("at least 8"), std::string::npos);
  EXPECT_NE(refusal("1f1b", 4, 2, 8).find("parallel.virtual_stages = 2"), std::string::npos);
  EXPECT_NE(refusal("zbv", 4, 1, 8).find("zb-v"), std::string::npos);
}

TEST(Schedule, IsDrawn) {
  const Schedule s = make_schedule("1f1b", 2, 1, 3);
  const Simulation sim = simulate(s, {.stages = {{1, 1, 0}}});
  EXPECT_EQ(draw_text(s, sim),
            "rank 0 0   1       (0) 2   (1)     (2)\n"
            "rank 1     0   (0) 1   (1) 2   (2)\n");
  EXPECT_NE(draw_text(s, sim, 30).find("... to"), std::string::npos);
  const std::string svg = draw_svg(s, sim);
  EXPECT_EQ(svg.substr(0, 4), "<svg");
  std::size_t rects = 0;
  for (std::size_t at = svg.find("<rect"); at != std::string::npos; at = svg.find("<rect", at + 1)) ++rects;
  EXPECT_EQ(rects, 12u);
}

}  // namespace
}  // namespace fourmi
