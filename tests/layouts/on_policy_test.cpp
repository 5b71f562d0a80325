// A student that writes texts of its own, in layouts: in mode layout every bit is that of one rank, the tokens too; and
// memory is what was measured before.
#include "framework/train/on_policy/on_policy.h"

#include <gtest/gtest.h>

#include "tests/layouts/mixture.h"
#include "tests/train/distill_recipe.h"

namespace fourmi {
namespace {

struct Both {
  Mixture student, teacher;
};

Recipe writing(Recipe r, double rate) {
  ModelSection teacher = small_teacher();
  teacher.vocab_size = r.model.vocab_size;
  r = distilled(std::move(r), teacher);
  r.distill.mode = "on-policy";
  r.distill.weight = {{{0, 0.8}}};
  r.distill.on_policy.rate = rate, r.distill.on_policy.prompt_tokens = 10, r.distill.on_policy.texts = 2;
  return r;
}

Recipe cut(const Both& b, Recipe r) {
  r.distill.teacher.parallel = b.teacher.of(r).parallel;
  return b.student.of(std::move(r));
}

const Both both[] = {
    {.student = {.ranks = 2, .tensor = 2}, .teacher = {.ranks = 2}},
    {.student = {.ranks = 4, .pipeline = 2}, .teacher = {.ranks = 4, .tensor = 2}},
    {.student = {.ranks = 2, .expert = 2}, .teacher = {.ranks = 2, .pipeline = 2}},
    {.student = {.ranks = 2, .zero = 3}, .teacher = {.ranks = 2, .tensor = 2}},
    {.student = {.ranks = 4, .tensor = 2, .pipeline = 2, .expert_tensor = 2, .schedule = "zb-v", .zero = 2},
     .teacher = {.ranks = 4, .context = 2}},
    {.student = {.ranks = 4, .tensor = 2, .context = 2, .expert = 4, .zero = 3, .recompute = Recompute::full},
     .teacher = {.ranks = 4}},
};

std::string name_of_both(const testing::TestParamInfo<Both>& of) {
  return "student_" + name_of(of.param.student) + "_teacher_" + name_of(of.param.teacher);
}

class StudentWrites : public testing::TestWithParam<Both> {};
INSTANTIATE_TEST_SUITE_P(Layouts, StudentWrites, testing::ValuesIn(both), name_of_both);

struct Written {
  RunResult run;
  std::vector<std::vector<std::int32_t>> texts;  // of the last step, as every rank had them
};

Written write_on(const Recipe& r, int ranks, int steps) {
  Written w;
  w.run = train_on(r, ranks, steps, 1, nullptr, [&](Engine& e) {
    std::vector<std::vector<std::int32_t>> texts;
    const WrittenTexts& own = e.on_policy()->texts();
    for (std::size_t i = 0; i < own.texts().size(); ++i) texts.emplace_back(own.tokens(i).begin(), own.tokens(i).end());
    EXPECT_TRUE(w.texts.empty() || w.texts == texts);
    w.texts = texts;
  });
  return w;
}

TEST_P(StudentWrites, EveryBitIsThatOfOneRank) {
  const Both& b = GetParam();
  const ShortDocuments documents;
  for (const Compute compute : {Compute::fp32, Compute::bf16}) {
    const Recipe whole = writing(documents.in(sparse(compute, Reproducibility::layout)), 0.6);
    const Recipe many = cut(b, whole);
    const Written one = write_on(whole, 1, 3), other = write_on(many, b.student.ranks, 3);
    ASSERT_FALSE(one.texts.empty());
    EXPECT_EQ(other.texts, one.texts);
    expect_equal_bits(one.run, other.run, compute == Compute::fp32 ? "fp32" : "bf16");
    for (std::size_t s = 0; s < 3; ++s) EXPECT_EQ(other.run.steps[s].tokens_written, one.run.steps[s].tokens_written);
    EXPECT_EQ(most_bytes(other.run), measured_bytes(many, b.student.ranks));
    EXPECT_EQ(most_bytes(one.run), measured_bytes(whole, 1));
  }
}

/// Tied embeddings, grouped queries; and a run of eight bits, whose student writes in bf16.
TEST(StudentWritesToo, OfADenseModelAndInEightBits) {
  const Both tensor{.student = {.ranks = 2, .tensor = 2}, .teacher = {.ranks = 2}};
  const Both pipeline{.student = {.ranks = 2, .pipeline = 2}, .teacher = {.ranks = 2}};
  Recipe r = writing(dense(Compute::bf16, Reproducibility::layout), 1);
  const Written one = write_on(r, 1, 2);
  for (const Both& b : {tensor, pipeline}) {
    const Written two = write_on(cut(b, r), 2, 2);
    EXPECT_EQ(two.texts, one.texts);
    expect_equal_bits(one.run, two.run, "dense");
  }
  Recipe eight = dense_in_blocks(Compute::fp8_block, Reproducibility::layout, tensor.student);
  eight.guard.precision_every = 0;
  eight = writing(eight, 1);
  eight.distill.teacher.compute = Compute::bf16;  // it is not in blocks
  const Written alone = write_on(eight, 1, 2), cut_in_two = write_on(cut(tensor, eight), 2, 2);
  EXPECT_EQ(cut_in_two.texts, alone.texts);
  expect_equal_bits(alone.run, cut_in_two.run, "eight bits");
}

}  // namespace
}  // namespace fourmi
