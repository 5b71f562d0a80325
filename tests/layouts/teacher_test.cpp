// A student beside a teacher, each in a layout of its own, against both on one rank: in fp64 every gradient to 1e-9 of
// its norm; in mode layout every bit. And memory: what was measured before is what was taken.
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "framework/train/mesh_sizes.h"
#include "framework/train/teacher/row_moves.h"
#include "tests/layouts/mixture.h"
#include "tests/train/distill_recipe.h"

namespace fourmi {
namespace {

struct Both {
  Mixture student, teacher;
  std::optional<std::int64_t> micro_batch_size{};  // the teacher's
};

Recipe both_of(const Both& b, const Recipe& student, const ModelSection& teacher, bool cut) {
  Recipe r = distilled(student, teacher);
  r.distill.teacher.section->vocab_size = student.model.vocab_size;
  r.distill.teacher.micro_batch_size = b.micro_batch_size;
  r.distill.temperature = 2, r.distill.weight = {{{0, 0.8}}};
  if (!cut) return r;
  r.distill.teacher.parallel = b.teacher.of(student).parallel;
  return b.student.of(r);
}

const Both both[] = {
    {.student = {.ranks = 4, .pipeline = 2}, .teacher = {.ranks = 4, .tensor = 2}},
    {.student = {.ranks = 2, .tensor = 2}, .teacher = {.ranks = 2}, .micro_batch_size = 2},
    {.student = {.ranks = 4, .tensor = 2, .context = 2, .zero = 3},
     .teacher = {.ranks = 4, .pipeline = 2, .schedule = "interleaved"}},
    {.student = {.ranks = 4, .context = 2, .pipeline = 2, .schedule = "zb-v", .recompute = Recompute::full},
     .teacher = {.ranks = 4, .tensor = 2, .context = 2, .expert = 4}},
    {.student = {.tensor = 2, .pipeline = 2, .expert = 2, .schedule = "dualpipev"},
     .teacher = {.context = 2, .pipeline = 4},
     .micro_batch_size = 4},
    {.student = {.tensor = 4, .expert = 8}, .teacher = {.tensor = 2, .pipeline = 2, .expert = 2, .expert_tensor = 2}},
    {.student = {.ranks = 2, .context = 2, .ring = true}, .teacher = {.ranks = 2, .context = 2}},
};

std::string name_of_both(const testing::TestParamInfo<Both>& of) {
  return "student_" + name_of(of.param.student) + "_teacher_" + name_of(of.param.teacher);
}

class TeacherBeside : public testing::TestWithParam<Both> {};
INSTANTIATE_TEST_SUITE_P(Layouts, TeacherBeside, testing::ValuesIn(both), name_of_both);

ModelSection teacher_of(bool sparse_one) {
  ModelSection m = sparse_one ? sparse(Compute::fp64, Reproducibility::run).model : small_teacher();
  m.initializer_range = 0.3;
  return m;
}

TEST_P(TeacherBeside, LearnsAsOnOneRank) {
  const Both& b = GetParam();
  const bool experts = b.teacher.expert > 1;  // a dense one has none to share
  const ModelSection teacher = teacher_of(experts);
  const Recipe exact = sparse(Compute::fp64, Reproducibility::run);
  const Recipe many = both_of(b, exact, teacher, true);
  const RunResult one = train_on(both_of(b, exact, teacher, false), 1, 1), cut = train_on(many, b.student.ranks, 1);
  expect_agreement(one, cut, "fp64");
  EXPECT_NEAR(cut.steps[0].loss_distill, one.steps[0].loss_distill, 1e-12);
  EXPECT_GT(one.steps[0].loss_distill, 1e-3);
  EXPECT_EQ(most_bytes(cut), measured_bytes(many, b.student.ranks));
  if (b.student.ring) return;
  for (const Compute compute : {Compute::fp32, Compute::bf16}) {
    const Recipe bits = sparse(compute, Reproducibility::layout);
    expect_equal_bits(train_on(both_of(b, bits, teacher, false), 1, 2),
                      train_on(both_of(b, bits, teacher, true), b.student.ranks, 2),
                      compute == Compute::fp32 ? "fp32" : "bf16");
  }
}

/// A teacher in eight bits beside a student in bf16, and the other way round.
TEST(TeacherPrecision, IsItsOwn) {
  for (const Compute of_teacher : {Compute::fp8_block, Compute::bf16}) {
    const Compute of_student = of_teacher == Compute::bf16 ? Compute::fp8_block : Compute::bf16;
    const Mixture m{.ranks = 2, .tensor = 2};
    Recipe r = dense_in_blocks(of_student, Reproducibility::layout, m);
    r.guard.precision_every = 0;
    r = distilled(r, r.model);
    r.distill.teacher.compute = of_teacher;
    Recipe cut = m.of(r);
    cut.distill.teacher.parallel.tensor = 2;
    const RunResult one = train_on(r, 1, 2), two = train_on(cut, 2, 2);
    expect_equal_bits(one, two, "eight bits");
    // Not the same numbers as without them.
    r.distill.teacher.compute.reset();
    EXPECT_NE(train_on(r, 1, 1).steps[0].loss_distill, one.steps[0].loss_distill);
  }
}

/// Each row of the step goes to one place, from where it is.
TEST(TeacherRows, EveryRowArrivesOnce) {
  for (const Both& b : both) {
    const Recipe student = both_of(b, sparse(Compute::fp32, Reproducibility::run), small_teacher(), true),
                 teacher = teacher_recipe(student);
    const int ranks = b.student.ranks;
    const StageMap student_stages = stage_map(student), stages = teacher_stages(teacher);
    const Mesh student_mesh(mesh_sizes(student, ranks)), mesh(mesh_sizes(teacher, ranks));
    const Layout from{teacher, mesh, stages}, to{student, student_mesh, student_stages};
    const std::int64_t samples = student.data.global_batch_size.at(0), T = student.data.sequence_length,
                       m = batch_sizes(teacher).shard_rows();
    // By rank: which token each row of the student's is.
    std::vector<std::vector<std::int64_t>> token_of(static_cast<std::size_t>(ranks));
    std::vector<std::int64_t> times(static_cast<std::size_t>(samples * T));
    for (int r = 0; r < ranks; ++r)
      for (const TokenRun& run : runs_on(to, r, samples)) {
        auto& mine = token_of[static_cast<std::size_t>(r)];
        mine.resize(std::max<std::size_t>(mine.size(), static_cast<std::size_t>(run.at + run.count)), -1);
        for (std::int64_t i = 0; i < run.count; ++i) mine[static_cast<std::size_t>(run.at + i)] = run.first + i;
      }
    std::vector<RowMoves> moves;
    for (int r = 0; r < ranks; ++r) moves.emplace_back(from, to, r, samples);
    for (std::size_t round = 0; round < moves[0].rounds().size(); ++round) {
      // What each rank sends to each, as tokens.
      std::vector<std::vector<std::int64_t>> sent(static_cast<std::size_t>(ranks));
      for (int r = 0; r < ranks; ++r) {
        std::map<std::int64_t, std::int64_t> token_at;
        for (const TokenRun& run : runs_on(from, r, samples))
          for (std::int64_t i = 0; i < run.count; ++i) token_at[run.at + i] = run.first + i;
        for (const RowMoves::Run& run : moves[static_cast<std::size_t>(r)].rounds()[round].sent)
          for (std::int64_t i = 0; i < run.count; ++i)
            sent[static_cast<std::size_t>(r)].push_back(
                token_at.at(static_cast<std::int64_t>(round) * m + run.row + i));
      }
      for (int q = 0; q < ranks; ++q) {
        const RowMoves::Round& mine = moves[static_cast<std::size_t>(q)].rounds()[round];
        std::vector<std::int64_t> received;
        for (int p = 0; p < ranks; ++p) {
          const RowMoves::Round& theirs = moves[static_cast<std::size_t>(p)].rounds()[round];
          ASSERT_EQ(theirs.to[static_cast<std::size_t>(q)], mine.from[static_cast<std::size_t>(p)]);
          const auto begin = sent[static_cast<std::size_t>(p)].begin() +
                             std::accumulate(theirs.to.begin(), theirs.to.begin() + q, std::int64_t{0});
          received.insert(received.end(), begin, begin + theirs.to[static_cast<std::size_t>(q)]);
        }
        ASSERT_EQ(std::ssize(received), mine.num_received);
        std::size_t at = 0;
        for (const RowMoves::Run& run : mine.received)
          for (std::int64_t i = 0; i < run.count; ++i, ++at) {
            ASSERT_EQ(received[at], token_of[static_cast<std::size_t>(q)][static_cast<std::size_t>(run.row + i)]);
            ++times[static_cast<std::size_t>(received[at])];
          }
      }
    }
    EXPECT_EQ(std::count(times.begin(), times.end(), 1), samples * T);
  }
}

}  // namespace
}  // namespace fourmi
