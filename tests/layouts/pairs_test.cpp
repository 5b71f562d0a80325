// Pairs of a forward and a backward that take turns phase by phase: not a bit differs from one after the other, the
// order of calls is the one that was proven, memory is as measured, and what does not go is refused or said.
#include <gtest/gtest.h>

#include <algorithm>

#include "framework/train/pair_rule.h"
#include "tests/layouts/mixtures.h"

namespace fourmi {
namespace {

struct Case {
  std::string name;
  Mixture mixture;
  bool has_experts = true;
};

constexpr auto selective = Recompute::selective, full = Recompute::full;
const std::vector<Case> cases{
    {"expert_2", {.ranks = 4, .pipeline = 2, .expert = 2, .schedule = "dualpipev"}},
    {"selective", {.ranks = 4, .pipeline = 2, .expert = 2, .schedule = "dualpipev", .recompute = selective}},
    {"full", {.ranks = 4, .pipeline = 2, .expert = 2, .schedule = "dualpipev", .recompute = full}},
    {"zero_2", {.ranks = 4, .pipeline = 2, .expert = 2, .schedule = "dualpipev", .zero = 2}},
    {"nodes", {.pipeline = 2, .expert = 4, .schedule = "dualpipev", .node_size = 2, .recompute = full}},
    {"tensor_and_expert_tensor",
     {.tensor = 2, .pipeline = 2, .expert = 2, .expert_tensor = 2, .schedule = "dualpipev", .recompute = selective}},
    {"device", {.pipeline = 2, .expert = 4, .schedule = "dualpipev", .recompute = full, .device = true}},
    {"context", {.context = 2, .pipeline = 2, .expert = 4, .schedule = "dualpipev"}},
    {"four_stages_a_side", {.pipeline = 4, .expert = 2, .schedule = "dualpipev"}},
    {"nothing_travels", {.ranks = 2, .pipeline = 2, .schedule = "dualpipev"}},
    {"dense", {.ranks = 4, .tensor = 2, .pipeline = 2, .schedule = "dualpipev"}, false},
    {"interleaved", {.ranks = 4, .pipeline = 2, .expert = 2, .schedule = "interleaved"}},
    {"interleaved_zero_0", {.pipeline = 2, .expert = 2, .schedule = "interleaved", .zero = 0, .recompute = selective}},
    {"interleaved_zero_2", {.ranks = 4, .pipeline = 2, .expert = 2, .schedule = "interleaved", .zero = 2}},
    {"interleaved_four_stages", {.pipeline = 4, .expert = 2, .schedule = "interleaved", .recompute = full}},
    {"interleaved_tensor_and_expert_tensor",
     {.tensor = 2, .pipeline = 2, .expert = 2, .expert_tensor = 2, .schedule = "interleaved", .recompute = full}},
    {"interleaved_context", {.context = 2, .pipeline = 2, .expert = 4, .schedule = "interleaved", .device = true}},
    {"interleaved_nodes",
     {.pipeline = 2, .expert = 4, .schedule = "interleaved", .node_size = 2, .recompute = selective}},
    {"interleaved_dense", {.ranks = 4, .tensor = 2, .pipeline = 2, .schedule = "interleaved"}, false},
};

Recipe with(Recipe r, OverlapPairs pairs) {
  r.parallel.overlap_pairs = pairs;
  return r;
}

/// Eight layers, so that a rank has two of each half, or one.
Recipe recipe_of(const Case& c, Compute compute, Reproducibility mode) {
  Recipe r = c.has_experts ? sparse(compute, mode) : dense(compute, mode);
  r.model.num_hidden_layers = 8;
  r.data.global_batch_size.over_tokens.steps = {{0, 16}};
  if (!c.has_experts) {
    // Some sequences have the end of a document inside, so that micro-batches differ in their layers' windows.
    r.data.sequence_length = r.model.max_position_embeddings = 48;
    r.data.global_batch_size.over_tokens.steps = {{0, 48}};
  }
  return r;
}

class PairBits : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Layouts, PairBits, testing::ValuesIn(cases), [](const auto& c) { return c.param.name; });

TEST_P(PairBits, AreThoseOfOneAfterTheOther) {
  const Case& c = GetParam();
  const Recipe recipe = c.mixture.of(recipe_of(c, Compute::bf16, Reproducibility::run));
  const Recipe together = with(recipe, OverlapPairs::always);
  ASSERT_EQ(pair_rule(together).how, Pairs::together);
  const RunResult pairs = train_on(together, c.mixture.ranks, 2);
  expect_equal_bits(train_on(with(recipe, OverlapPairs::never), c.mixture.ranks, 2), pairs, c.name);
  EXPECT_EQ(most_bytes(pairs), measured_bytes(together, c.mixture.ranks));
}

TEST_P(PairBits, AreThoseOfOneRankInModeLayout) {
  const Case& c = GetParam();
  const Recipe recipe = recipe_of(c, Compute::fp32, Reproducibility::layout);
  expect_equal_bits(train_on(recipe, 1, 2),
                    train_on(with(c.mixture.of(recipe), OverlapPairs::always), c.mixture.ranks, 2), c.name);
}

TEST(PairRule, SaysWhatItDoesAndWhy) {
  const Case& c = cases.front();
  Recipe r = c.mixture.of(recipe_of(c, Compute::fp32, Reproducibility::run));
  EXPECT_EQ(pair_rule(r).how, Pairs::together);
  EXPECT_EQ(to_text(pair_rule(r)),
            "forward and backward of a pair take turns phase by phase (one half computes while rows of the other "
            "travel to experts)");
  EXPECT_EQ(pair_rule(with(r, OverlapPairs::never)).how, Pairs::in_turn);

  const auto expect_refused = [](const Recipe& recipe, const std::string& with_what) {
    EXPECT_EQ(pair_rule(recipe).how, Pairs::in_turn) << with_what;
    try {
      pair_rule(with(recipe, OverlapPairs::always));
      ADD_FAILURE() << "not refused with " << with_what;
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::usage);
      EXPECT_EQ(e.place(), "parallel.overlap_pairs");
      EXPECT_NE(e.cause().find(with_what), std::string::npos) << e.cause();
    }
  };
  Recipe weights_take_turns = r, bounded = r, no_pairs = r;
  weights_take_turns.parallel.zero = 3;
  bounded.parallel.dispatch_bound = 1.25;
  no_pairs.parallel.pipeline_schedule = "1f1b";
  expect_refused(weights_take_turns, "parallel.zero 3");
  expect_refused(bounded, "parallel.dispatch_bound");
  expect_refused(no_pairs, "no pairs");
  EXPECT_EQ(pair_rule(no_pairs).why, "");
  // Interleaved has pairs where they are done phase by phase, and only there.
  Recipe interleaved = r;
  interleaved.parallel.pipeline_schedule = "interleaved", interleaved.parallel.virtual_stages = 2;
  const auto num_pairs = [](const Recipe& recipe) {
    const std::vector<Action> list = schedule_of(recipe, 8).actions.back();
    return std::count_if(list.begin(), list.end(), [](const Action& a) { return a.verb == Verb::pair; });
  };
  EXPECT_EQ(pair_rule(interleaved).how, Pairs::together);
  EXPECT_EQ(num_pairs(interleaved), 2 * 8 - (2 + 1));
  EXPECT_EQ(num_pairs(with(interleaved, OverlapPairs::never)), 0);
  weights_take_turns.parallel.pipeline_schedule = "interleaved";
  expect_refused(weights_take_turns, "parallel.zero 3");
  Recipe tied = interleaved;
  tied.model.tie_word_embeddings = true;
  ASSERT_GT(tied.model.num_nextn_predict_layers, 0);
  expect_refused(tied, "tied embeddings");
  tied.run.reproducibility = Reproducibility::layout;
  EXPECT_EQ(pair_rule(tied).how, Pairs::together);
  interleaved.parallel.expert = 1;
  EXPECT_EQ(pair_rule(interleaved).how, Pairs::in_turn);
  EXPECT_EQ(num_pairs(interleaved), 0);

  // A bound that no routing reaches keeps nothing apart.
  bounded.parallel.dispatch_bound = 100;
  EXPECT_EQ(pair_rule(bounded).how, Pairs::together);
}

TEST(PairMemory, IsTakenWherePairsAreAskedFor) {
  const Case& c = cases.front();
  const Recipe r = c.mixture.of(recipe_of(c, Compute::bf16, Reproducibility::run));
  EXPECT_GT(measured_bytes(with(r, OverlapPairs::always), 4), measured_bytes(with(r, OverlapPairs::never), 4));
}

}  // namespace
}  // namespace fourmi
