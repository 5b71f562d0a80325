// Conversations, of which a part is learned, unevenly over sequences, micro-batches and ranks: every layout finds the
// mean over all learned tokens that one rank finds, with balance loss and multi-token prediction.
#include <gtest/gtest.h>

#include "tests/layouts/layouts.h"

namespace fourmi {
namespace {

/// Conversations whose questions and answers are long and short by turns.
class Conversations {
 public:
  Conversations() : path_(std::filesystem::temp_directory_path() / fmt::format("fourmi-conversations-{}", getpid())) {
    std::filesystem::create_directories(path_);
    std::ofstream lines(path_ / "d.jsonl");
    const RandomKey key = random_key(1, "test", "conversations");
    for (std::uint64_t i = 0; i < 60; ++i) {
      const auto words = [&](std::uint64_t n, std::uint64_t at) {
        std::string text;
        for (std::uint64_t c = 0; c < n; ++c) text += static_cast<char>('a' + random_bits(key, 1000 * i + at + c) % 26);
        return text;
      };
      const std::uint64_t bits = random_bits(key, 1000000 + i);
      lines << fmt::format(
                   R"({{"messages": [{{"role": "user", "content": "{}"}}, {{"role": "assistant", "content": "{}"}}]}})",
                   words(1 + bits % 9, 0), words(1 + bits / 16 % 11, 100))
            << "\n";
    }
    std::ofstream(path_ / "t.jinja") << "{% for m in messages %}<{{ m.role[:1] }}>{{ m.content }}</>{% endfor %}"
                                        "{% if add_generation_prompt %}<a>{% endif %}";
  }
  ~Conversations() { std::filesystem::remove_all(path_); }

  Recipe in(Recipe r) const {
    r.data.train[0].path = (path_ / "d.jsonl").string();
    r.data.train[0].format = "messages";
    r.data.chat_template = (path_ / "t.jinja").string();
    r.data.tokenizer = "bytes";
    r.model.vocab_size = 320;
    r.model.intermediate_size = 64, r.model.moe_intermediate_size = 64;
    r.model.num_key_value_heads = 4;
    r.model.num_hidden_layers = 4;
    return r;
  }

 private:
  std::filesystem::path path_;
};

Recipe on(Recipe r, int tensor, int pipeline, int context, int expert = 1) {
  r.parallel.tensor = tensor, r.parallel.pipeline = pipeline, r.parallel.context = context;
  r.parallel.expert = expert;
  return r;
}

TEST(ConversationsInLayouts, AllFindTheMeanOverWhatIsLearned) {
  const Conversations lines;
  const Recipe recipe = lines.in(small_recipe(Compute::fp64, Reproducibility::run, 1));
  const RunResult one = train_on(recipe, 1, 1);
  // A part of the tokens is learned, and ranks have different parts: what would be a mean of means is another number.
  const LoadedSource source = load_sources(recipe.data.train, "data.train").at(0);
  const Loader loader(recipe.data, {source}, recipe.run.seed, recipe.model.vocab_size);
  const StepPlan plan = loader.plan_step(loader.start());
  EXPECT_EQ(one.steps[0].targets, plan.num_targets);
  EXPECT_EQ(one.steps[0].tokens, plan.num_inputs);
  EXPECT_LT(plan.num_targets, plan.num_inputs);
  const auto half = static_cast<std::int64_t>(plan.samples.size() / 2);
  const auto learned = [&](std::int64_t first) {
    const Batch b = loader.batch(plan, first, half);
    return std::count_if(b.targets.begin(), b.targets.end(), [](std::int32_t t) { return t >= 0; });
  };
  EXPECT_NE(learned(0), learned(half));
  expect_agreement(one, train_on(recipe, 2, 1), "2 data ranks");
  expect_agreement(one, train_on(on(recipe, 2, 1, 1), 2, 1), "2 tensor ranks");
  expect_agreement(one, train_on(on(recipe, 1, 2, 1), 2, 1), "2 pipeline ranks");
  expect_agreement(one, train_on(on(recipe, 1, 1, 2), 2, 1), "2 context ranks");
  expect_agreement(one, train_on(on(recipe, 1, 1, 1, 2), 2, 1), "2 expert ranks");
  expect_agreement(one, train_on(on(recipe, 2, 2, 1), 8, 1), "2 x 2 x 2 ranks");
  Recipe two = recipe;
  two.data.micro_batch_size = 2;
  expect_agreement(one, train_on(two, 2, 1), "2 data ranks with 2 sequences a micro-batch");
}

TEST(ConversationsInLayouts, LayoutModeGivesEqualBits) {
  const Conversations lines;
  const Recipe recipe = lines.in(small_recipe(Compute::bf16, Reproducibility::layout, 1));
  const RunResult one = train_on(recipe, 1, 3);
  expect_equal_bits(one, train_on(recipe, 2, 3), "2 data ranks");
  expect_equal_bits(one, train_on(on(recipe, 2, 1, 2), 4, 3), "2 tensor x 2 context ranks");
  expect_equal_bits(one, train_on(on(recipe, 1, 2, 1), 4, 3), "2 pipeline x 2 data ranks");
}

}  // namespace
}  // namespace fourmi
