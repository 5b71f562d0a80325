// Prompts in samples of every kind, and the rows of a batch in which other text stands behind them.
#include "framework/train/on_policy/on_policy.h"
#include "kernels/ops/divergence.h"
#include "tests/data/files.h"
#include "tests/train/distill_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

constexpr std::int32_t opening = 256;

/// A row a token of one sequence.
Batch rows_of(const WindowShape& shape, std::vector<std::int32_t> tokens, std::vector<std::int32_t> targets) {
  Batch b = empty_batch(shape, 1);
  std::copy(tokens.begin(), tokens.end(), b.tokens.begin());
  std::copy(targets.begin(), targets.end(), b.targets.begin());
  return b;
}

bool special(std::int32_t token) {
  return token >= 250;
}

TEST(OnPolicyPrompt, IsTheBeginningOrWhatStandsBeforeTheFirstLearnedToken) {
  WindowShape shape{.sequence_length = 8, .opening = opening};
  OnPolicySection own;
  const std::vector<std::int32_t> tokens{1, 2, 3, 4, 5, 6, 7, 8}, all{2, 3, 4, 5, 6, 7, 8, 9};
  const auto prompt = [&](const Batch& b, bool part) { return prompt_of(b, shape, part, own, special); };
  const Batch whole = rows_of(shape, tokens, all);
  EXPECT_EQ(prompt(whole, false).tokens, 4);  // half
  EXPECT_EQ(prompt(whole, false).most, 5);    // the last is a target only, as the data's is
  EXPECT_EQ(prompt(whole, false).targets, 8);
  own.prompt_tokens = 7;
  EXPECT_EQ(prompt(whole, false).most, 2);
  own.max_new_tokens = 1;
  EXPECT_EQ(prompt(whole, false).most, 1);
  own = {};
  own.prompt_tokens = 3;
  // A source's last window, a document that is no longer than its prompt; and one on its own, which may become longer.
  EXPECT_EQ(prompt(rows_of(shape, {1, 2, 3, 4, 5}, {2, 3, 4, 5, 6}), false).most, 3);
  EXPECT_EQ(prompt(rows_of(shape, {1, 2, 3}, {2, 3, 4}), false).most, 0);
  shape.packing = false;
  EXPECT_EQ(prompt(rows_of(shape, {1, 2, 3, 4, 5}, {2, 3, 4, 5, 6}), false).most, 6);
  // A conversation: its first answer, whose last token may be one that ends answers.
  const OwnPrompt answer = prompt(rows_of(shape, tokens, {-1, -1, -1, 5, 251, -1, 8, 9}), true);
  EXPECT_EQ(answer.tokens, 4);
  EXPECT_EQ(answer.most, 5);
  EXPECT_EQ(answer.end, 251);
  EXPECT_EQ(answer.targets, 4);
  EXPECT_EQ(prompt(rows_of(shape, tokens, {-1, -1, -1, 5, 6, -1, 8, 9}), true).end, -1);
  EXPECT_EQ(prompt(rows_of(shape, tokens, {}), true).most, 0);  // padding
}

/// The rows of sample 1 of 2, in the second sequence of a batch, after the student wrote `written`.
Batch rewritten(const WindowShape& shape, std::int64_t prompt, const std::vector<std::int32_t>& written, Batch sample) {
  Arena arena({"writer"}, 1 << 12);
  WrittenTexts texts(4, shape.sequence_length, 1, arena);
  const auto alone = make_thread_groups("alone", 1);
  texts.begin(shape);
  texts.add({1, {.tokens = prompt, .most = 5}});
  const Draft draft{.tokens = {}, .written = written};
  texts.share(*alone[0], {&draft, 1});
  EXPECT_EQ(texts.num_tokens(), std::ssize(written));
  Batch both = empty_batch(shape, 2);
  const auto T = static_cast<std::size_t>(shape.sequence_length);
  for (std::size_t i = 0; i < T; ++i) {
    both.tokens[T + i] = sample.tokens[i], both.targets[T + i] = sample.targets[i];
    both.mtp_tokens[T + i] = both.mtp_targets[T + i] = sample.targets[i];
  }
  const Batch before = both;
  texts.write(0, 0, both);  // not a sample of its own
  EXPECT_EQ(both.tokens, before.tokens);
  texts.write(1, 1, both);
  for (std::size_t i = 0; i < T; ++i) EXPECT_EQ(both.tokens[i], before.tokens[i]);
  EXPECT_EQ(std::count(both.mtp_targets.begin(), both.mtp_targets.end(), -1), 2 * shape.sequence_length);
  return both;
}

using Column = std::vector<std::int32_t>;
Column second(const Column& column) {
  return {column.begin() + std::ssize(column) / 2, column.end()};
}

TEST(OnPolicyRows, ATextTakesTheDatasPlaceBehindItsPrompt) {
  constexpr std::int32_t own = divergence_alone;
  WindowShape shape{.sequence_length = 8, .opening = opening};
  const Batch sample = rows_of(shape, {1, 2, 3, 4, 5, 6, 7, 8}, {2, 3, 4, 5, 6, 7, 8, 9});
  // To the end: the last token is only a target. Behind an end of document the next one opens.
  Batch b = rewritten(shape, 4, {50, opening, 52, 53, 54}, sample);
  EXPECT_EQ(second(b.tokens), (Column{1, 2, 3, 4, 50, opening, 52, 53}));
  EXPECT_EQ(second(b.targets), (Column{-1, -1, -1, own, own, own, own, own}));
  EXPECT_EQ(second(b.positions), (Column{0, 1, 2, 3, 4, 0, 1, 2}));
  EXPECT_EQ(second(b.key_begin), (Column{8, 8, 8, 8, 8, 13, 13, 13}));
  shape.cross_document_attention = true;
  b = rewritten(shape, 4, {50, opening, 52, 53, 54}, sample);
  EXPECT_EQ(second(b.positions), (Column{0, 1, 2, 3, 4, 5, 6, 7}));
  // What the tokenizer ends documents with is not what opens them.
  shape.cross_document_attention = false, shape.closing = 255;
  b = rewritten(shape, 4, {50, 255, 52, 53, 54}, sample);
  EXPECT_EQ(second(b.tokens), (Column{1, 2, 3, 4, 50, opening, 52, 53}));
  EXPECT_EQ(second(b.positions), (Column{0, 1, 2, 3, 4, 0, 1, 2}));
  // One that ends before: padding follows.
  shape.closing = -1, shape.packing = false;
  b = rewritten(shape, 4, {50, 51, opening}, sample);
  EXPECT_EQ(second(b.tokens), (Column{1, 2, 3, 4, 50, 51, opening, opening}));
  EXPECT_EQ(second(b.targets), (Column{-1, -1, -1, own, own, own, -1, -1}));
  EXPECT_EQ(second(b.positions), (Column{0, 1, 2, 3, 4, 5, 0, 1}));
  EXPECT_EQ(second(b.key_begin), (Column{8, 8, 8, 8, 8, 8, 14, 14}));
  b = rewritten(shape, 8, {50}, sample);
  EXPECT_EQ(second(b.targets), (Column{-1, -1, -1, -1, -1, -1, -1, own}));
}

/// Conversations through a whole step: the student answers in the assistant's place, and nothing else is learned.
TEST(OnPolicyRows, ConversationsAreAnswered) {
  const test::Folder folder;
  std::string lines;
  for (int i = 0; i < 40; ++i)
    lines += fmt::format(
                 R"({{"messages": [{{"role": "user", "content": "{}"}}, {{"role": "assistant", "content": "{}"}}]}})",
                 i, i * i) +
             "\n";
  Recipe r = distilled(small_recipe(Compute::fp32, Reproducibility::run, 2), small_teacher());
  r.data.train[0].path = folder.write("d.jsonl", lines), r.data.train[0].format = "messages";
  r.data.chat_template = folder.write("t.jinja",
                                      "{% for m in messages %}<{{ m.role[:1] }}>{{ m.content }}</>{% endfor %}"
                                      "{% if add_generation_prompt %}<a>{% endif %}");
  r.data.packing = false;
  r.distill.mode = "on-policy", r.distill.on_policy.rate = 1, r.distill.on_policy.max_new_tokens = 6;
  Batch step, data;
  const RunResult run = train_on(r, 1, 1, 1, nullptr, [&](Engine& e) {
    const Loader loader(r.data, load_sources(r.data.train, "data.train"), r.run.seed, r.model.vocab_size);
    const OnPolicy& own = *e.on_policy();
    step = loader.batch(own.step(), 0, 8), data = loader.batch(loader.plan_step(loader.start()), 0, 8);
    ASSERT_EQ(own.texts().texts().size(), 8u);
    for (std::size_t i = 0; i < 8; ++i) {
      const std::span<const std::int32_t> text = own.texts().tokens(i);
      EXPECT_LE(text.size(), 6u);
      EXPECT_TRUE(text.size() == 6 || text.back() == opening);
      // The prompt ends where the assistant's turn begins.
      const auto P = static_cast<std::ptrdiff_t>(own.texts().texts()[i].prompt.tokens);
      const std::string prompt(data.tokens.begin() + 32 * static_cast<std::ptrdiff_t>(i),
                               data.tokens.begin() + 32 * static_cast<std::ptrdiff_t>(i) + P);
      EXPECT_TRUE(prompt.ends_with("<a>")) << prompt;
    }
  });
  EXPECT_EQ(run.steps[0].targets, run.steps[0].tokens_written);
  EXPECT_EQ(run.steps[0].targets, std::count(step.targets.begin(), step.targets.end(), divergence_alone));
  EXPECT_EQ(std::count_if(step.targets.begin(), step.targets.end(), [](std::int32_t t) { return t >= 0; }), 0);
  EXPECT_GT(run.steps[0].loss_distill, 0);
  EXPECT_EQ(run.steps[0].loss, 0);
}

}  // namespace
}  // namespace fourmi
