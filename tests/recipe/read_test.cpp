// Values and defaults; what is written reads back to the same; what differs between two recipes.
#include "framework/recipe/read.h"

#include <gtest/gtest.h>

#include <random>

#include "framework/recipe/compare.h"
#include "framework/recipe/field.h"
#include "framework/recipe/scalar.h"
#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::small_recipe;
using testing::with;

TEST(Read, ValuesStandWhereTheyBelong) {
  const Recipe r = parse_recipe(small_recipe());
  EXPECT_EQ(r.run.name, "small");
  EXPECT_EQ(r.run.steps, 10);
  EXPECT_FALSE(r.run.tokens.has_value());
  EXPECT_EQ(r.model.model_type, "deepseek_v3");
  EXPECT_EQ(r.model.n_routed_experts, 8);
  EXPECT_EQ(r.model.topk_group, 2);
  EXPECT_EQ(r.data.train.at(0).path, "/data/web.txt");
  EXPECT_EQ(r.data.train.at(0).weight, 2);
  EXPECT_EQ(r.data.train.at(1).format, "synthetic");
  EXPECT_EQ(r.data.holdout, 0.1);
  EXPECT_EQ(r.optimizer.beta2, 0.95);
  EXPECT_EQ(r.schedule.name, "cosine");
  EXPECT_EQ(r.schedule.warmup_steps, 2);
  EXPECT_EQ(r.schedule.decay_end_step, 10);
  EXPECT_EQ(r.checkpoint.keep_last, 2);
}

TEST(Read, DefaultsThatDependOnOtherKeys) {
  const Recipe r = parse_recipe(small_recipe());
  EXPECT_EQ(r.run.directory, "runs/small");
  EXPECT_EQ(r.model.num_key_value_heads, 4);
  EXPECT_EQ(r.model.scoring_func, "sigmoid");
  EXPECT_EQ(r.model.topk_method, "noaux_tc");
  EXPECT_EQ(r.schedule.decay_start_step, 2);  // the end of the warm-up
  EXPECT_TRUE(r.evaluation.at_end);
  EXPECT_EQ(r.loss.mtp_weight.at(0), 0.3);
  const Recipe v2 = parse_recipe(with("deepseek_v3", "deepseek_v2", with("topk_group: 2", "topk_group: 4")), "recipe",
                                 {"loss={router_bias_rate: 0}"});
  EXPECT_EQ(v2.model.scoring_func, "softmax");
  EXPECT_EQ(v2.model.topk_method, "greedy");
  const Recipe unheld = parse_recipe(with("  validation: {holdout: 0.1}\n", "", with("evaluation: {every: 5}\n", "")));
  EXPECT_FALSE(unheld.evaluation.at_end);
}

TEST(Read, SteppedValues) {
  const Recipe r = parse_recipe(with("1.0e-3}\ndata", "[[0, 1.0e-3], [5e9, 0]]}\ndata"));
  EXPECT_EQ(r.loss.router_bias_rate.at(0), 1e-3);
  EXPECT_EQ(r.loss.router_bias_rate.at(4.9e9), 1e-3);
  EXPECT_EQ(r.loss.router_bias_rate.at(5e9), 0);
  EXPECT_EQ(Stepped{}.at(7), 0);
}

TEST(Read, WholeNumbersAreExact) {
  using recipe::to_whole;
  EXPECT_EQ(to_whole("100e9"), 100000000000);
  EXPECT_EQ(to_whole("1.5e3"), 1500);
  EXPECT_EQ(to_whole("1500e-2"), 15);
  EXPECT_EQ(to_whole("2.0"), 2);
  EXPECT_EQ(to_whole("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(to_whole("-9223372036854775808"), INT64_MIN);
  EXPECT_EQ(to_whole("0e999999999999"), 0);
  for (const char* bad : {"9223372036854775808", "1e19", "1e999999999999", "2.5", "15e-1", "010", "0x10", "", "-", "e5",
                          "1e", "1 ", " 1", "1_0", "5.0001"}) {
    EXPECT_FALSE(to_whole(bad).has_value()) << bad;
  }
  EXPECT_EQ(recipe::to_number("1e-400"), 0.0);
  EXPECT_EQ(recipe::to_number(".5"), 0.5);
  EXPECT_EQ(recipe::to_number("+5."), 5.0);
  EXPECT_FALSE(recipe::to_number("1e400").has_value());
  EXPECT_EQ(recipe::to_seconds("30m"), 1800);
  EXPECT_EQ(recipe::seconds_text(5400), "90m");
  EXPECT_EQ(recipe::to_seconds(recipe::seconds_text(0.1)), 0.1);
}

TEST(Write, ReadsBackToTheSame) {
  for (const std::vector<std::string>& overrides : std::vector<std::vector<std::string>>{
           {},
           {"run.tokens=100e9", "run.time=90m", "run.threads=3", "run.seed=9223372036854775807"},
           {"checkpoint.every=0.1s", "checkpoint.resume=/a b/step-1", "parallel.data=3"},
           {"schedule={name: constant, decay_end_step: null}", "optimizer.learning_rate=1e-320"},
           {"schedule={name: warmup-stable-decay, warmup_tokens: 1e9, decay_start_tokens: 2e9, decay_end_tokens: 3e9}",
            "schedule.warmup_steps=null", "schedule.decay_end_step=null", "run.tokens=1e10"},
           {"schedule={name: linear, warmup_fraction: 0.03, decay_end_step: null, horizon_steps: 100}"},
           {"schedule={name: constant, warmup_fraction: 1, decay_end_step: null, horizon_steps: 100}"},
           {"loss.mtp_weight=[[0, 0.3], [1e13, 0.1]]", "precision.compute=fp32", "precision.moments=bf16"},
           {"model.rope_scaling={type: yarn, factor: 3.3, original_max_position_embeddings: 16, beta_slow: 0.25}"},
           {"data.validation=[{name: \"a: b\", path: \"x\\\"y\\\\z é #\"}]", "evaluation.at_end=false"},
           {"data.train.web.name=\"010\"", "data.train.010.source=\"null\"", "data.train.0.source=\"- a\""}}) {
    SCOPED_TRACE(overrides.empty() ? "" : overrides[0]);
    std::vector<RecipeIssue> issues = testing::issues_of(small_recipe(), overrides);
    ASSERT_TRUE(issues.empty()) << testing::all_of(issues);
    const Recipe r = parse_recipe(small_recipe(), "recipe", overrides);
    const std::string text = to_yaml(r);
    issues = testing::issues_of(text);
    ASSERT_TRUE(issues.empty()) << text << testing::all_of(issues);
    const Recipe again = parse_recipe(text);
    EXPECT_TRUE(again == r) << text;
    EXPECT_EQ(to_yaml(again), text);
    EXPECT_TRUE(compare(r, again).empty());
  }
}

/// A random value that the row accepts, as YAML; empty: leave the key alone.
std::string random_value(const recipe::Field& field, std::mt19937_64& random) {
  using recipe::Type;
  const auto pick = [&](std::uint64_t count) { return random() % count; };
  const double share = static_cast<double>(random() % 1000003) / 1000003.0;
  if (field.type == Type::words)
    return field.choices.empty() ? "" : "[" + field.choices[pick(field.choices.size())] + "]";
  if (!field.choices.empty()) return field.choices[pick(field.choices.size())];
  switch (field.type) {
    case Type::boolean:
      return pick(2) ? "true" : "false";
    case Type::number:
    case Type::stepped: {
      const double most = std::min(field.most, 1.0), least = std::max(field.least, 1e-9);
      return recipe::number_text(std::max(least, share * most));
    }
    case Type::duration:
      return recipe::number_text(1 + share * 1e5) + "smhd"[pick(4)];
    case Type::betas:
      return fmt::format("[{}, {}]", recipe::number_text(share), recipe::number_text(share * share));
    case Type::first_last:
      return share < 0.2 ? "[]" : fmt::format("[{}, {}]", 1 + pick(100), 200 + pick(100));
    default:
      return {};
  }
}

TEST(Write, RandomRecipesReadBackToTheSame) {
  std::mt19937_64 random(20);
  int written = 0;
  for (int round = 0; round < 600; ++round) {
    std::vector<std::string> overrides;
    for (const recipe::Field& field : recipe::fields()) {
      const std::string section(field.parent());
      const bool open = field.path.find("[]") == std::string::npos && section != "schedule" &&
                        !section.starts_with("distill") && section != "model.rope_scaling" &&
                        field.path != "model.model_type" && field.path != "model.scoring_func" &&
                        (field.families & recipe::kV3);
      if (!open || random() % 4 != 0) continue;
      const std::string value = random_value(field, random);
      if (!value.empty()) overrides.push_back(field.path + "=" + value);
    }
    Recipe r;
    try {
      r = parse_recipe(small_recipe(), "recipe", overrides);
    } catch (const RecipeErrors&) {
      continue;  // values that do not go together
    }
    ++written;
    const std::string text = to_yaml(r);
    EXPECT_TRUE(parse_recipe(text) == r) << text;
  }
  EXPECT_GT(written, 30);
}

std::string changes(const std::vector<std::string>& overrides, const std::string& text = small_recipe()) {
  std::string out;
  for (const ChangedKey& change : compare(parse_recipe(small_recipe()), parse_recipe(text, "recipe", overrides))) {
    out +=
        fmt::format("{}: {} -> {} {}; ", change.key, change.before, change.after, recipe::class_text(change.key_class));
  }
  return out;
}

TEST(Compare, NamesKeyValuesAndClass) {
  EXPECT_EQ(changes({}), "");
  EXPECT_EQ(changes({"optimizer.learning_rate=0.002"}), "optimizer.learning_rate: 0.001 -> 0.002 asked; ");
  EXPECT_EQ(changes({"optimizer.epsilon=1e-8"}), "");  // the default, written out
  EXPECT_EQ(changes({"run.steps=20"}), "run.steps: 10 -> 20 free; ");
  EXPECT_EQ(changes({"run.tokens=1e6"}), "run.steps: 10 -> none free; run.tokens: none -> 1000000 free; ");
  EXPECT_EQ(changes({"run.seed=2"}), "run.seed: 1 -> 2 fixed; ");
  EXPECT_EQ(changes({"run.reproducibility=layout"}), "run.reproducibility: run -> layout asked; ");
  EXPECT_EQ(changes({"model.vocab_size=384"}), "model.vocab_size: 320 -> 384 fixed; ");
  EXPECT_EQ(changes({"data.train.web.weight=3"}), "data.train.web.weight: 2 -> 3 asked; ");
  EXPECT_EQ(changes({"data.validation={holdout: 0.2}"}), "data.validation.holdout: 0.1 -> 0.2 fixed; ");
  EXPECT_EQ(changes({"data.micro_batch_size=4"}), "data.micro_batch_size: 2 -> 4 free; ");
  EXPECT_EQ(changes({"data.global_batch_size=4"}), "data.global_batch_size: 8 -> 4 asked; ");
  EXPECT_EQ(changes({"data.global_batch_size=[[0, 8], [1e6, 16]]"}),
            "data.global_batch_size: 8 -> [[0, 8], [1000000, 16]] asked; ");
  EXPECT_EQ(changes({"data.repeat=2"}), "data.repeat: none -> 2 asked; ");
  EXPECT_EQ(changes({"checkpoint.every=1h", "logging.every=1"}),
            "checkpoint.every: 5 -> 1h free; logging.every: 10 -> 1 free; ");
  EXPECT_EQ(changes({"data.train=[{name: web, path: /data/web.txt, weight: 2}]"}),
            "data.train.made-up.format: synthetic -> none asked; data.train.made-up.weight: 1 -> none asked; "
            "data.train: [web, made-up] -> [web] asked; ");
}

TEST(Compare, ClassesAreThoseOfTheContract) {
  using recipe::KeyClass;
  const auto expected = [](const std::string& path) {
    const std::string section = path.substr(0, path.find('.'));
    if (path == "run.seed" || section == "model") return KeyClass::fixed;
    if (path == "run.reproducibility") return KeyClass::asked;
    if (path == "data.micro_batch_size") return KeyClass::free;
    if (path.starts_with("data.tokenizer") || path == "data.sequence_length" || path.starts_with("data.validation"))
      return KeyClass::fixed;
    for (const char* asked : {"optimizer", "schedule", "loss", "precision", "data", "distill"}) {
      if (section == asked) return KeyClass::asked;
    }
    return KeyClass::free;  // run, parallel, checkpoint, evaluation, logging
  };
  for (const recipe::Field& field : recipe::fields()) EXPECT_EQ(field.key_class, expected(field.path)) << field.path;
}

}  // namespace
}  // namespace fourmi
