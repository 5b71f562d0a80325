// Texts that the student writes itself, on one rank: which samples, which tokens, what is learned of them.
#include "framework/train/on_policy/on_policy.h"

#include <numeric>

#include "framework/model/sampling.h"
#include "kernels/numerics/random.h"
#include "tests/data/files.h"
#include "tests/train/distill_recipe.h"
#include "tests/train/runs.h"
#include "tests/train/whole_logits.h"

namespace fourmi {
namespace {

Recipe writing(Recipe r, double rate) {
  r = distilled(std::move(r), small_teacher());
  r.distill.mode = "on-policy";
  r.distill.on_policy.rate = rate;
  r.distill.on_policy.prompt_tokens = 12;
  return r;
}

/// Documents of 1 to 40 letters: prompts end anywhere in them.
struct Letters {
  test::Folder folder;
  Letters() {
    const RandomKey key = random_key(1, "test", "letters");
    for (std::uint64_t i = 0; i < 400; ++i) {
      std::string text;
      for (std::uint64_t c = 0; c < 1 + random_bits(key, i) % 40; ++c)
        text += static_cast<char>('a' + random_bits(key, 1000 * (i + 1) + c) % 26);
      folder.write("texts/" + std::to_string(1000 + i), text);
    }
  }
  Recipe in(Recipe r) const {
    r.data.train[0].path = folder.path() + "/texts", r.data.train[0].format = "text";
    return r;
  }
};

/// A step's texts as the ranks of a run had them.
struct Kept {
  std::vector<std::int64_t> samples, prompts;
  std::vector<std::vector<std::int32_t>> tokens;
  Batch batch;  // of the step
  StepPlan step;
};

Loader loader_of(const Recipe& r) {
  return Loader(r.data, load_sources(r.data.train, "data.train"), r.run.seed, r.model.vocab_size);
}

Kept texts_of(const Recipe& r, RunResult* run = nullptr, const std::function<void(Engine&)>& prepare = nullptr) {
  Kept kept;
  const RunResult result = train_on(r, 1, 1, 1, prepare, [&](Engine& e) {
    const OnPolicy& own = *e.on_policy();
    const Loader loader = loader_of(r);
    for (std::size_t i = 0; i < own.texts().texts().size(); ++i) {
      const WrittenTexts::Text& text = own.texts().texts()[i];
      kept.samples.push_back(text.sample), kept.prompts.push_back(text.prompt.tokens);
      const std::span<const std::int32_t> written = own.texts().tokens(i);
      kept.tokens.emplace_back(written.begin(), written.end());
    }
    kept.step = own.step();
    kept.batch = loader.batch(own.step(), 0, std::ssize(own.step().samples));
  });
  if (run) *run = result;
  return kept;
}

std::int64_t count(const std::vector<std::int32_t>& column, const std::function<bool(std::int32_t)>& what) {
  return std::count_if(column.begin(), column.end(), what);
}

TEST(OnPolicy, RateZeroIsOnlineToTheBit) {
  for (const double weight : {1.0, 0.6}) {
    Recipe own = writing(small_recipe(Compute::bf16, Reproducibility::run, 2), 0), online = own;
    own.distill.weight = online.distill.weight = {{{0, weight}}};
    online.distill.mode = "online", online.distill.on_policy = {};
    const RunResult a = train_on(own, 1, 3), b = train_on(online, 1, 3);
    expect_equal_bits(a, b, "rate 0");
    EXPECT_EQ(a.steps[2].loss, b.steps[2].loss);
    EXPECT_EQ(a.steps[2].tokens_written, 0);
  }
}

/// Each token again, from all that its document has before it, by a decoder that begins anew.
TEST(OnPolicy, WritesWhatDecodingFromTheSameWeightsGives) {
  const Letters letters;
  for (const Compute compute : {Compute::fp32, Compute::bf16}) {
    Recipe r = letters.in(writing(small_recipe(compute, Reproducibility::run, 2), 1));
    r.data.global_batch_size = 64;
    r.distill.on_policy.temperature = 0.8, r.distill.on_policy.top_p = 0.95, r.distill.on_policy.texts = 5;
    const Kept kept = texts_of(r);
    ASSERT_GE(kept.samples.size(), 60u);  // the last window of the source may be too short
    ThreadPool pool(1);
    const Stream stream(pool);
    ModelSection section = r.model;
    section.num_nextn_predict_layers = 0;
    const ParameterTable table(section);
    Arena weights({"weights"}, 1 << 24), cache({"cache"}, 1 << 24);
    const ParameterStore store(table, model_types(compute, Reproducibility::run), weights, nullptr);
    const Model model(section, store, r.data.sequence_length, weights);
    initialise_weights(store, r.run.seed, section.initializer_range, stream);
    Decoder decoder(model, store, {.max_tokens = 32, .rows = 32}, cache);
    const Loader loader = loader_of(r);
    const StepPlan plan = loader.plan_step(loader.start());
    std::int64_t openings = 0;
    for (std::size_t t = 0; t < kept.samples.size(); ++t) {
      const Batch given = loader.batch(plan, kept.samples[t], 1);
      std::vector<std::int32_t> tokens(given.tokens.begin(), given.tokens.begin() + 12);
      const auto real = count(given.targets, [](std::int32_t target) { return target >= 0; });
      ASSERT_EQ(std::ssize(kept.tokens[t]), real - 11);
      const auto number = static_cast<std::uint64_t>(kept.samples[t]);
      const Sampling sampling{0.8, 0.95, random_bits(random_key(r.run.seed, "on-policy", "text"), number)};
      for (std::size_t i = 0; i < kept.tokens[t].size(); ++i) {
        const auto opening = std::find(tokens.rbegin(), tokens.rend(), 256);  // the bytes' end of document
        const std::ptrdiff_t begin = opening == tokens.rend() ? 0 : tokens.rend() - opening - 1;
        decoder.clear();
        const DecoderRun all{.tokens = std::span(tokens).subspan(static_cast<std::size_t>(begin))};
        const std::span<const double> logits = decoder.step(stream, {&all, 1});
        ASSERT_EQ(kept.tokens[t][i], fourmi::sample(logits, sampling, static_cast<std::int64_t>(i), 257))
            << "text " << t << " token " << i;
        tokens.push_back(kept.tokens[t][i]);
        openings += i > 0 && kept.tokens[t][i] == 256;
      }
    }
    EXPECT_GT(openings, 0);  // some text has gone on behind an end of document
  }
}

/// Counts are those of the rows; the loss is the formula over whole logits, cross-entropy of the data's rows alone.
TEST(OnPolicy, LearnsTheDivergenceOnWhatItWrote) {
  const Letters letters;
  for (const double rate : {0.5, 1.0}) {
    Recipe r = letters.in(writing(small_recipe(Compute::fp64, Reproducibility::run, 2), rate));
    r.distill.objective = DistillObjective::reverse_kl;
    r.distill.weight = {{{0, 0.7}}};
    RunResult run;
    const Kept kept = texts_of(r, &run);
    const StepResult& got = run.steps[0];
    const Batch& b = kept.batch;
    EXPECT_EQ(got.targets, count(b.targets, [](std::int32_t t) { return t != -1; }));
    EXPECT_EQ(got.tokens_written, count(b.targets, [](std::int32_t t) { return t == divergence_alone; }));
    EXPECT_EQ(kept.step.num_mtp_targets, count(b.mtp_targets, [](std::int32_t t) { return t >= 0; }));
    EXPECT_GT(got.tokens_written, 0);
    EXPECT_EQ(rate == 1, kept.step.num_mtp_targets == 0);
    Recipe plain = r;
    plain.model.num_nextn_predict_layers = 0;
    const auto student = logits_of(plain, r.run.seed, b), teacher = logits_of(teacher_recipe(r), teacher_seed, b);
    double divergences = 0, cross_entropy = 0, given = 0;
    for (std::size_t i = 0; i < b.targets.size(); ++i) {
      if (b.targets[i] == -1) continue;
      const auto q = log_softmax(student[i], 1), p = log_softmax(teacher[i], 1);
      for (std::size_t v = 0; v < q.size(); ++v) divergences += std::exp(q[v]) * (q[v] - p[v]);
      if (b.targets[i] >= 0) ++given, cross_entropy -= q[static_cast<std::size_t>(b.targets[i])];
    }
    const auto targets = static_cast<double>(got.targets);
    EXPECT_NEAR(got.loss_distill, divergences / targets, 1e-11);
    EXPECT_NEAR(got.loss, cross_entropy / std::max(1.0, given), 1e-11);
    EXPECT_EQ(rate == 1, given == 0);
  }
}

/// No gradient goes through what is sampled, all others do: the tokens stay, so the loss is smooth around the weights.
TEST(OnPolicy, GradientIsThatOfTheLossOnTheSameTexts) {
  Recipe r = writing(small_recipe(Compute::fp64, Reproducibility::run, 2), 0.5);
  r.model.num_nextn_predict_layers = 0;
  r.loss.balance_weight = {}, r.loss.router_bias_rate = {};
  r.distill.weight = {{{0, 0.7}}};
  RunResult run;
  const Kept texts = texts_of(r, &run);
  for (const char* name : {"lm_head.weight", "model.layers.1.self_attn.o_proj.weight", "model.embed_tokens.weight"}) {
    const std::vector<double>& gradient = run.gradients.at(name);
    std::size_t at = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i)
      if (std::abs(gradient[i]) > std::abs(gradient[at])) at = i;
    // What it writes with is taken from the masters' owners, so this changes what is learned alone.
    const auto loss_at = [&](double step) {
      RunResult there;
      const Kept same =
          texts_of(r, &there, [&](Engine& e) { e.store().weight(e.store().slot(name)).as<double>()[at] += step; });
      EXPECT_EQ(same.tokens, texts.tokens);
      // Of the sums over all learned tokens: cross-entropy's are those of the data's.
      const StepResult& s = there.steps[0];
      const auto all = static_cast<double>(s.targets);
      return 0.7 * s.loss_distill + 0.3 * s.loss * (all - static_cast<double>(s.tokens_written)) / all;
    };
    const double h = 1e-4, found = (loss_at(h) - loss_at(-h)) / (2 * h) * static_cast<double>(run.steps[0].targets);
    EXPECT_NEAR(found, gradient[at], 2e-6 * std::abs(gradient[at])) << name;
  }
}

/// From the data's own step on, whatever ran before: what a launch that goes on draws.
TEST(OnPolicy, WhichSamplesAndWhichTokensFollowFromSeedAndPosition) {
  Recipe r = writing(small_recipe(Compute::fp32, Reproducibility::run, 2), 0.5);
  const Kept first = texts_of(r), again = texts_of(r);
  EXPECT_EQ(first.samples, again.samples);
  EXPECT_EQ(first.tokens, again.tokens);
  EXPECT_GT(first.samples.size(), 0u);
  EXPECT_LT(first.samples.size(), 8u);
  Recipe few = r;
  few.distill.on_policy.texts = 1;
  EXPECT_EQ(texts_of(few).tokens, first.tokens);  // texts beside a text change nothing
  r.run.seed = 6;
  EXPECT_NE(texts_of(r).tokens, first.tokens);
}

TEST(OnPolicy, ReverseDivergenceToTheTeacherFalls) {
  Recipe r = writing(small_recipe(Compute::fp32, Reproducibility::run, 2), 1);
  r.distill.objective = DistillObjective::reverse_kl;
  r.distill.on_policy.prompt_tokens = 1;
  r.optimizer.learning_rate = 3e-3;
  ModelSection teacher = r.model;  // the student, three times as sure
  teacher.initializer_range *= 3;
  r.distill.teacher.section = teacher;
  const RunResult run = train_on(r, 1, 60, 1, [&](Engine& e) {
    ThreadPool pool(1);
    dynamic_cast<Teacher&>(*e.guidance()).forward().initialise(r.run.seed, Stream(pool));
  });
  const auto mean = [&](std::size_t first) {
    double sum = 0;
    for (std::size_t i = first; i < first + 5; ++i) sum += run.steps[i].loss_distill;
    return sum / 5;
  };
  EXPECT_LT(mean(55), 0.8 * mean(0));
}

}  // namespace
}  // namespace fourmi
