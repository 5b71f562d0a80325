// A student beside its teacher on one rank: the loss against the formula over whole logits in double precision, the
// gradient against finite differences of the loss.
#include <array>

#include "tests/train/distill_recipe.h"
#include "tests/train/runs.h"
#include "tests/train/whole_logits.h"

namespace fourmi {
namespace {

struct Case {
  DistillObjective objective;
  double beta, temperature, weight;
};
const Case cases[] = {{DistillObjective::forward_kl, 0.5, 1, 1},     {DistillObjective::forward_kl, 0.5, 2, 0.7},
                      {DistillObjective::reverse_kl, 0.5, 1, 0.9},   {DistillObjective::reverse_kl, 0.5, 3, 1},
                      {DistillObjective::jensen_shannon, 0.5, 1, 1}, {DistillObjective::jensen_shannon, 0.1, 1.5, 0.5}};

Recipe recipe_of(const Case& c) {
  Recipe r = distilled(small_recipe(Compute::fp64, Reproducibility::run, 2), small_teacher());
  r.model.num_nextn_predict_layers = 0;
  r.loss.balance_weight = {};
  r.loss.router_bias_rate = {};
  r.distill.objective = c.objective, r.distill.beta = c.beta, r.distill.temperature = c.temperature;
  r.distill.weight = {{{0, c.weight}}};
  return r;
}

class Distill : public testing::TestWithParam<Case> {};
std::string name_of_case(const testing::TestParamInfo<Case>& of) {
  const std::array names{"forward", "reverse", "jensen_shannon"};
  return fmt::format("{}_temperature{:.0f}_weight{:.0f}", names[static_cast<std::size_t>(of.param.objective)],
                     10 * of.param.temperature, 10 * of.param.weight);
}
INSTANTIATE_TEST_SUITE_P(Objectives, Distill, testing::ValuesIn(cases), name_of_case);

double divergence(const Case& c, const std::vector<double>& student, const std::vector<double>& teacher) {
  const std::vector<double> q = log_softmax(student, c.temperature), p = log_softmax(teacher, c.temperature);
  double sum = 0;
  for (std::size_t v = 0; v < q.size(); ++v) {
    const double m = std::log(c.beta * std::exp(p[v]) + (1 - c.beta) * std::exp(q[v]));
    if (c.objective == DistillObjective::forward_kl) sum += std::exp(p[v]) * (p[v] - q[v]);
    if (c.objective == DistillObjective::reverse_kl) sum += std::exp(q[v]) * (q[v] - p[v]);
    if (c.objective == DistillObjective::jensen_shannon)
      sum += c.beta * std::exp(p[v]) * (p[v] - m) + (1 - c.beta) * std::exp(q[v]) * (q[v] - m);
  }
  return c.temperature * c.temperature * sum;
}

TEST_P(Distill, LossIsTheFormulaOverWholeLogits) {
  const Case& c = GetParam();
  const Recipe recipe = recipe_of(c), teacher = teacher_recipe(recipe);
  const Loader loader(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed,
                      recipe.model.vocab_size);
  const StepPlan plan = loader.plan_step(loader.start());
  const Batch batch = loader.batch(plan, 0, std::ssize(plan.samples));
  const auto student_rows = logits_of(recipe, recipe.run.seed, batch), rows = logits_of(teacher, teacher_seed, batch);
  ASSERT_EQ(student_rows.size(), batch.targets.size());
  ASSERT_EQ(rows.size(), batch.targets.size());
  double cross_entropy = 0, divergences = 0, targets = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (batch.targets[i] < 0) continue;
    ++targets;
    cross_entropy -= log_softmax(student_rows[i], 1)[static_cast<std::size_t>(batch.targets[i])];
    divergences += divergence(c, student_rows[i], rows[i]);
  }
  const StepResult got = train_on(recipe, 1, 1).steps[0];
  EXPECT_NEAR(got.loss, cross_entropy / targets, 1e-12);
  EXPECT_NEAR(got.loss_distill, divergences / targets, 1e-11);
  EXPECT_GT(got.loss_distill, 1e-3);
}

TEST_P(Distill, GradientIsThatOfTheLoss) {
  const Recipe recipe = recipe_of(GetParam());
  const RunResult run = train_on(recipe, 1, 1);
  const auto targets = static_cast<double>(run.steps[0].targets);
  for (const char* name : {"lm_head.weight", "model.norm.weight", "model.layers.1.self_attn.o_proj.weight",
                           "model.layers.0.mlp.down_proj.weight", "model.embed_tokens.weight"}) {
    const std::vector<double>& gradient = run.gradients.at(name);
    // Where it is largest, so that a difference of losses says something.
    std::size_t at = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i)
      if (std::abs(gradient[i]) > std::abs(gradient[at])) at = i;
    const auto loss_at = [&](double step) {
      const StepResult s = train_on(recipe, 1, 1, 1, [&](Engine& e) {
                             e.store().weight(e.store().slot(name)).as<double>()[at] += step;
                           }).steps[0];
      return (1 - GetParam().weight) * s.loss + GetParam().weight * s.loss_distill;
    };
    const double h = 1e-4, found = (loss_at(h) - loss_at(-h)) / (2 * h) * targets;
    EXPECT_NEAR(found, gradient[at], 2e-6 * std::abs(gradient[at])) << name;
  }
}

/// A teacher that is the student itself: nothing to learn.
TEST(DistillItself, LossAndGradientAreZero) {
  Recipe recipe = recipe_of(cases[0]);
  recipe.distill.teacher.section = recipe.model;
  const RunResult run = train_on(recipe, 1, 1, 1, [&](Engine& e) {
    ThreadPool pool(1);
    dynamic_cast<Teacher&>(*e.guidance()).forward().initialise(recipe.run.seed, Stream(pool));
  });
  EXPECT_NEAR(run.steps[0].loss_distill, 0, 1e-13);
  EXPECT_NEAR(run.steps[0].grad_norm, 0, 1e-13);
}

TEST(DistillWeight, FollowsItsSchedule) {
  Recipe recipe = recipe_of(cases[0]);
  recipe.distill.weight = {{{0, 0}, {1, 1}}};
  const RunResult run = train_on(recipe, 1, 2);
  Recipe alone = recipe;
  alone.distill = {};
  const RunResult without = train_on(alone, 1, 2);
  EXPECT_EQ(without.steps[0].loss, run.steps[0].loss);
  EXPECT_EQ(without.steps[0].grad_norm, run.steps[0].grad_norm);
  EXPECT_EQ(without.steps[1].loss, run.steps[1].loss);
  EXPECT_NE(without.steps[1].grad_norm, run.steps[1].grad_norm);
}

/// A vocabulary with other padding: the teacher's distribution over the tokens that both have.
TEST(DistillPadding, IsNoToken) {
  for (const std::int64_t of_teacher : {304, 384}) {
    Recipe recipe = recipe_of(cases[1]);
    recipe.distill.teacher.section->vocab_size = of_teacher;
    recipe.data.train[0].name = "made";
    const Recipe teacher = teacher_recipe(recipe);
    // Tokens of the smaller of both.
    const std::int64_t both = std::min(of_teacher, recipe.model.vocab_size);
    const Loader loader(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed, both);
    const StepPlan plan = loader.plan_step(loader.start());
    const Batch batch = loader.batch(plan, 0, std::ssize(plan.samples));
    const auto student_rows = logits_of(recipe, recipe.run.seed, batch);
    auto rows = logits_of(teacher, teacher_seed, batch);
    double divergences = 0, targets = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (batch.targets[i] < 0) continue;
      ++targets;
      rows[i].resize(static_cast<std::size_t>(both));
      rows[i].resize(static_cast<std::size_t>(recipe.model.vocab_size), -std::numeric_limits<double>::infinity());
      const std::vector<double> q = log_softmax(student_rows[i], 2), p = log_softmax(rows[i], 2);
      for (std::size_t v = 0; v < static_cast<std::size_t>(both); ++v)
        divergences += 4 * std::exp(p[v]) * (p[v] - q[v]);
    }
    EXPECT_NEAR(train_on(recipe, 1, 1, 1, nullptr, nullptr, nullptr, both).steps[0].loss_distill, divergences / targets,
                1e-11)
        << of_teacher;
  }
}

}  // namespace
}  // namespace fourmi
