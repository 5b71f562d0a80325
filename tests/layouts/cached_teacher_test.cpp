// A cache that teachers in any layout fill alike, and students in any layout that learn from it alike: in fp64 every
// gradient to 1e-9 of its norm, in mode layout every bit. And what is learned, against the teacher beside the student.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>

#include "framework/train/teacher/capture.h"
#include "tests/layouts/mixture.h"
#include "tests/train/distill_recipe.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

class CachedTeacherTest : public testing::Test {
 protected:
  CachedTeacherTest() {
    std::string name = (fs::temp_directory_path() / "fourmi-cached-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~CachedTeacherTest() override { fs::remove_all(folder_); }

  /// `entries` likeliest, or as many drawn.
  Recipe offline(const Recipe& student, const char* cache, std::int64_t entries, bool sampled = false) const {
    Recipe r = student;
    r.distill.mode = "offline";
    r.distill.cache = (folder_ / cache).string();
    (sampled ? r.distill.samples : r.distill.top_k) = entries;
    r.distill.weight = {{{0, 0.8}}};
    r.run.steps = 3;
    return r;
  }
  fs::path folder_;
};

/// On threads; the teacher as nobody trained it.
CaptureSummary capture_on(
    const Recipe& recipe, const ModelSection& teacher, int num_ranks,
    const std::function<bool()>& stop = [] { return false; }, std::optional<std::uint64_t> seed = {}) {
  Recipe r = recipe;
  r.distill.teacher.from = "made";
  r.distill.teacher.section = teacher;
  auto groups = make_thread_groups("data", num_ranks);
  std::vector<CaptureSummary> summaries(static_cast<std::size_t>(num_ranks));
  std::vector<std::thread> threads;
  std::exception_ptr thrown;
  std::mutex mutex;
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        ThreadPool pool(1);
        const Stream stream(pool);
        CaptureOptions options;
        options.load = [&](TeacherForward& of) {
          of.initialise(teacher_seed, stream);
          TeacherFact fact;
          fact.name = "made", fact.root = std::string(64, '7');
          return fact;
        };
        options.rows_of_part = 5 * r.data.sequence_length;
        options.stop = stop;
        options.seed = seed;
        summaries[static_cast<std::size_t>(rank)] =
            capture(r, *groups[static_cast<std::size_t>(rank)], stream, options);
      } catch (...) {
        groups[static_cast<std::size_t>(rank)]->cancel("a rank failed");
        const std::lock_guard lock(mutex);
        if (!thrown) thrown = std::current_exception();
      }
    });
  for (std::thread& t : threads) t.join();
  if (thrown) std::rethrow_exception(thrown);
  return summaries[0];
}

ModelSection wide_teacher(const Recipe& student) {
  ModelSection m = small_teacher();
  m.vocab_size = student.model.vocab_size;
  return m;
}

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& file : fs::directory_iterator(folder)) {
    if (!file.is_regular_file()) continue;
    std::ifstream in(file.path(), std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    files[file.path().filename().string()] = text.str();
  }
  return files;
}

TEST_F(CachedTeacherTest, AnyLayoutOfTheTeacherFillsItAlike) {
  for (const bool sampled : {false, true}) {
    const Recipe student = sparse(Compute::bf16, Reproducibility::layout);
    Recipe one = offline(student, sampled ? "one-sampled" : "one", 7, sampled);
    const CaptureSummary whole = capture_on(one, wide_teacher(student), 1);
    EXPECT_TRUE(whole.complete);
    EXPECT_GT(whole.rows, 0);
    const auto files = files_of(one.distill.cache);
    EXPECT_GT(files.size(), 3u) << "several parts and nothing beside them";
    const Mixture layouts[] = {
        {.ranks = 2, .tensor = 2}, {.ranks = 4, .pipeline = 2}, {.ranks = 4, .tensor = 2, .context = 2}, {.ranks = 3}};
    for (const Mixture& m : layouts) {
      Recipe cut = offline(student, "cut", 7, sampled);
      cut.distill.teacher.parallel = m.of(student).parallel;
      cut.distill.teacher.micro_batch_size = m.ranks == 3 ? 2 : 1;
      EXPECT_EQ(capture_on(cut, wide_teacher(student), m.ranks).root, whole.root) << name_of(m);
      EXPECT_EQ(files_of(cut.distill.cache), files) << name_of(m);
      fs::remove_all(cut.distill.cache);
    }
  }
}

TEST_F(CachedTeacherTest, GoesOnToTheSameBytesAndAddsWhatALongerRunReads) {
  const Recipe student = sparse(Compute::fp32, Reproducibility::run);
  const ModelSection teacher = wide_teacher(student);
  Recipe r = offline(student, "whole", 7);
  const CaptureSummary whole = capture_on(r, teacher, 1);
  const auto files = files_of(r.distill.cache);
  r.distill.cache = (folder_ / "stopped").string();
  // Stopped before each part.
  int calls = 0;
  CaptureSummary summary;
  for (int parts = 0; parts < 100; ++parts) {
    int before = 0;
    summary = capture_on(r, teacher, 1, [&] { return before++ == 1; });
    ++calls;
    if (summary.complete) break;
    EXPECT_THROW(CacheReader(r.distill.cache), Error);
  }
  EXPECT_GT(calls, 2);
  EXPECT_EQ(summary.root, whole.root);
  EXPECT_EQ(files_of(r.distill.cache), files);
  // Nothing is left to do; then there is more.
  EXPECT_EQ(capture_on(r, teacher, 1).made.rows, 0);
  r.run.steps = 5;
  const CaptureSummary more = capture_on(r, teacher, 2);
  EXPECT_GT(more.made.rows, 0);
  EXPECT_EQ(more.rows, whole.rows + more.made.rows);
  EXPECT_EQ(train_on(r, 1, 5).steps.size(), 5u);
  // Another order of the data adds what it reads.
  r.run.seed += 1;
  EXPECT_THROW(train_on(r, 1, 5), std::runtime_error);
  EXPECT_GT(capture_on(r, teacher, 1).made.rows, 0);
  EXPECT_EQ(train_on(r, 1, 5).steps.size(), 5u);
  // Of another kind.
  r.distill.temperature = 2;
  EXPECT_THROW(capture_on(r, teacher, 1), Error);
}

/// All tokens of a small vocabulary, but for the rounding of what is kept: the teacher beside the student.
TEST_F(CachedTeacherTest, KeptWholeItTeachesWhatTheTeacherBesideDoes) {
  for (const double temperature : {1.0, 2.0}) {
    const Recipe student = sparse(Compute::fp64, Reproducibility::run);
    Recipe r = offline(student, temperature == 1 ? "whole" : "tempered", student.model.vocab_size);
    r.distill.temperature = temperature;
    capture_on(r, wide_teacher(student), 1);
    Recipe beside = distilled(student, wide_teacher(student));
    beside.distill.weight = r.distill.weight, beside.distill.temperature = temperature;
    const RunResult cached = train_on(r, 1, 1), online = train_on(beside, 1, 1);
    EXPECT_NEAR(cached.steps[0].loss_distill, online.steps[0].loss_distill, 1e-5);
    EXPECT_DOUBLE_EQ(cached.steps[0].loss, online.steps[0].loss);
    EXPECT_GT(online.steps[0].loss_distill, 1e-3);
    for (const auto& [name, gradient] : online.gradients) {
      double error = 0, norm = 0;
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        const double d = gradient[i] - cached.gradients.at(name)[i];
        error += d * d, norm += gradient[i] * gradient[i];
      }
      EXPECT_LE(std::sqrt(error), 2e-4 * std::sqrt(norm) + 1e-12) << name;
    }
  }
}

/// Samples with other seeds: their mean gradient comes to that of the teacher beside as one over the root of their
/// number; a few of the likeliest alone do not come to it.
TEST_F(CachedTeacherTest, SamplesTeachTheWholeDistributionOnAverage) {
  Recipe student = sparse(Compute::fp64, Reproducibility::run);
  student.model.num_nextn_predict_layers = 0;
  const ModelSection teacher = wide_teacher(student);
  const auto gradient_of = [&](const Recipe& r) { return train_on(r, 1, 1).gradients.at("lm_head.weight"); };
  Recipe beside = distilled(student, teacher);
  const std::vector<double> exact = gradient_of(beside);
  const auto distance = [&](const std::vector<double>& sum, double count) {
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      error += (sum[i] / count - exact[i]) * (sum[i] / count - exact[i]);
      norm += exact[i] * exact[i];
    }
    return std::sqrt(error / norm);
  };
  std::vector<double> sum(exact.size());
  double of_one = 0;
  const int draws = 24;
  for (int d = 0; d < draws; ++d) {
    Recipe r = offline(student, "drawn", 4, true);
    r.distill.weight = {{{0, 1}}};
    r.run.steps = 1;
    r.distill.cache += std::to_string(d);
    capture_on(
        r, teacher, 1, [] { return false; }, static_cast<std::uint64_t>(d));
    const std::vector<double> g = gradient_of(r);
    if (d == 0) of_one = distance(g, 1);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += g[i];
  }
  const double of_all = distance(sum, draws);
  EXPECT_GT(of_one, 0.01);
  EXPECT_LT(of_all, 1.6 * of_one / std::sqrt(draws));
  Recipe likeliest = offline(student, "likeliest", 4);
  likeliest.distill.weight = {{{0, 1}}};
  capture_on(likeliest, teacher, 1);
  EXPECT_GT(distance(gradient_of(likeliest), 1), 1.2 * of_all);
}

const Mixture students[] = {
    {.ranks = 2},
    {.ranks = 2, .tensor = 2},
    {.ranks = 4, .context = 2, .pipeline = 2, .schedule = "zb-v"},
    {.ranks = 4, .tensor = 2, .expert = 4, .zero = 3},
    {.ranks = 2, .context = 2, .ring = true},
    {.ranks = 8, .tensor = 2, .context = 2, .pipeline = 2, .expert = 4, .schedule = "dualpipev"}};

TEST_F(CachedTeacherTest, AnyLayoutOfTheStudentLearnsAlike) {
  for (const bool sampled : {false, true})
    for (const Compute compute : {Compute::fp64, Compute::fp32, Compute::bf16}) {
      const Reproducibility mode = compute == Compute::fp64 ? Reproducibility::run : Reproducibility::layout;
      const std::string what = std::string(sampled ? "sampled " : "top ") + std::to_string(static_cast<int>(compute));
      Recipe r = offline(sparse(compute, mode), what.c_str(), 7, sampled);
      if (compute == Compute::fp32) r.distill.temperature = 1.5;
      capture_on(r, wide_teacher(r), 4);
      const RunResult one = train_on(r, 1, 2);
      EXPECT_GT(one.steps[0].loss_distill, 1e-3);
      for (const Mixture& m : students) {
        SCOPED_TRACE(what + " " + name_of(m));
        if (m.ring && compute != Compute::fp64) continue;
        const Recipe cut = m.of(r);
        const RunResult many = train_on(cut, m.ranks, 2);
        if (compute == Compute::fp64) {
          expect_agreement(one, many, what);
          EXPECT_NEAR(many.steps[1].loss_distill, one.steps[1].loss_distill, 1e-12);
        } else {
          expect_equal_bits(one, many, what);
          EXPECT_EQ(many.steps[1].loss_distill, one.steps[1].loss_distill);
        }
        EXPECT_EQ(most_bytes(many), measured_bytes(cut, m.ranks));
      }
    }
}

}  // namespace
}  // namespace fourmi
