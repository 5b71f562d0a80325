#include "kernels/ops/divergence.h"

#include <cmath>
#include <limits>

#include "kernels/ops/cross_entropy.h"
#include "kernels/ops/tree_sum.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using test::Buffer;
using Kind = Divergence::Kind;

const Divergence all_divergences[] = {
    {.kind = Kind::forward_kl},
    {.kind = Kind::forward_kl, .temperature = 2.5},
    {.kind = Kind::reverse_kl},
    {.kind = Kind::reverse_kl, .temperature = 0.7},
    {.kind = Kind::jensen_shannon, .beta = 0.5},
    {.kind = Kind::jensen_shannon, .beta = 0.1, .temperature = 2},
    {.kind = Kind::jensen_shannon, .beta = 0.9, .temperature = 0.9},
};

struct Result {
  Buffer divergence, loss, mean, dlogits;
};

struct Problem {
  Buffer student, teacher, targets;
  double weight = 1, share = 1;
};

struct Sums {
  Buffer student_max, student_sum, plain_sum, teacher_max, teacher_sum;
  Sums(DType dtype, std::int64_t C)
      : student_max(dtype, {C}),
        student_sum(dtype, {C}),
        plain_sum(dtype, {C}),
        teacher_max(dtype, {C}),
        teacher_sum(dtype, {C}) {}
};

Result run(const Stream& s, const Divergence& d, const Problem& p, DType gradient) {
  const std::int64_t C = p.student->dim(0), V = p.student->dim(1);
  const DType dtype = p.student->dtype;
  Sums sums(dtype, C);
  softmax_max(s, p.student, sums.student_max);
  softmax_max(s, p.teacher, sums.teacher_max);
  tempered_sum(s, 1, p.student, sums.student_max, sums.plain_sum);
  tempered_sum(s, d.temperature, p.student, sums.student_max, sums.student_sum);
  tempered_sum(s, d.temperature, p.teacher, sums.teacher_max, sums.teacher_sum);
  Result r{Buffer(dtype, {C}), Buffer(dtype, {C}), Buffer(dtype, {C}), Buffer(gradient, {C, V})};
  const TemperedRows student{p.student, sums.student_max, sums.student_sum},
      teacher{p.teacher, sums.teacher_max, sums.teacher_sum};
  divergence_sums(s, d, student, teacher, r.loss, r.mean);
  divergence_finish(s, d, p.weight, p.share, student, teacher, {r.loss, r.mean, sums.plain_sum, p.targets}, 0,
                    r.divergence, r.dlogits);
  return r;
}

/// Loss and gradient of a row by the definitions, in long double.
struct Dense {
  long double divergence = 0;
  std::vector<long double> gradient;

  Dense(const Divergence& d, const Problem& p, std::int64_t row) {
    const std::int64_t V = p.student->dim(1);
    const auto softmax = [&](const Buffer& logits, long double t) {
      std::vector<long double> x(static_cast<std::size_t>(V));
      long double sum = 0;
      for (std::int64_t v = 0; v < V; ++v)
        sum += x[static_cast<std::size_t>(v)] = std::exp(static_cast<long double>(logits.get(row * V + v)) / t);
      for (long double& e : x) e /= sum;
      return x;
    };
    const long double t = d.temperature, beta = d.beta;
    const auto q = softmax(p.student, t), y = softmax(p.teacher, t), plain = softmax(p.student, 1);
    const auto kl = [&](const std::vector<long double>& a, const std::vector<long double>& b) {
      long double sum = 0;
      for (std::size_t v = 0; v < a.size(); ++v) sum += a[v] * std::log(a[v] / b[v]);
      return sum;
    };
    std::vector<long double> m(q.size()), slope(q.size());  // dL/dq
    for (std::size_t v = 0; v < q.size(); ++v) m[v] = beta * y[v] + (1 - beta) * q[v];
    for (std::size_t v = 0; v < q.size(); ++v) {
      if (d.kind == Kind::forward_kl) slope[v] = -y[v] / q[v];
      if (d.kind == Kind::reverse_kl) slope[v] = std::log(q[v] / y[v]) + 1;
      if (d.kind == Kind::jensen_shannon)  // term by term, not simplified
        slope[v] =
            -beta * y[v] * (1 - beta) / m[v] + (1 - beta) * (std::log(q[v] / m[v]) + 1 - q[v] * (1 - beta) / m[v]);
    }
    divergence = d.kind == Kind::forward_kl   ? kl(y, q)
                 : d.kind == Kind::reverse_kl ? kl(q, y)
                                              : beta * kl(y, m) + (1 - beta) * kl(q, m);
    divergence *= t * t;
    long double mean = 0;
    for (std::size_t v = 0; v < q.size(); ++v) mean += q[v] * slope[v];
    for (std::size_t v = 0; v < q.size(); ++v) {
      const long double distilled = t * t / t * q[v] * (slope[v] - mean);
      const bool alone = p.targets.id(row) == divergence_alone;
      const long double entropy = alone ? 0 : plain[v] - (static_cast<std::int64_t>(v) == p.targets.id(row) ? 1 : 0);
      gradient.push_back(p.weight * ((1 - p.share) * entropy + p.share * distilled));
    }
    if (p.targets.id(row) != -1) return;
    divergence = 0;
    std::fill(gradient.begin(), gradient.end(), 0);
  }
};

/// `vocabulary`: targets are below it.
Problem problem(DType dtype, std::int64_t C, std::int64_t V, std::int64_t vocabulary) {
  Problem p{test::noisy(dtype, {C, V}, 1, 3), test::noisy(dtype, {C, V}, 2, 3), Buffer(DType::i32, {C}), 0.7, 0.4};
  for (std::int64_t i = 0; i < C; ++i)
    p.targets.set(i, i % 4 == 3   ? -1
                     : i % 4 == 1 ? double(divergence_alone)
                                  : double((i * 37 + vocabulary - 1) % vocabulary));
  return p;
}

TEST(Divergence, AgreesWithItsDefinition) {
  ThreadPool pool(1);
  for (DType dtype : {DType::f64, DType::f32})
    for (DType gradient : {dtype, DType::bf16})
      for (std::int64_t V : {2, 33, 1100})
        for (const Divergence& d : all_divergences) {
          constexpr std::int64_t C = 6;
          const Problem p = problem(dtype, C, V, V);
          const Result first = run(Stream(pool), d, p, gradient);
          const double unit = test::unit_of(dtype);
          for (std::int64_t row = 0; row < C; ++row) {
            const Dense expected(d, p, row);
            EXPECT_NEAR(first.divergence.get(row), double(expected.divergence),
                        200 * unit * (1 + double(expected.divergence)));
            for (std::int64_t v = 0; v < V; ++v) {
              const double g = double(expected.gradient[static_cast<std::size_t>(v)]);
              ASSERT_NEAR(first.dlogits.get(row * V + v), g, 100 * unit + std::fabs(g) * test::unit_of(gradient))
                  << static_cast<int>(d.kind) << " V " << V << " row " << row << " column " << v;
            }
          }
          test::on_every_stream([&](const Stream& s) {
            const Result r = run(s, d, p, gradient);
            EXPECT_TRUE(r.divergence == first.divergence && r.dlogits == first.dlogits);
          });
        }
}

TEST(Divergence, GradientsByFiniteDifferences) {
  ThreadPool pool(1);
  const Stream s(pool);
  for (const Divergence& d : all_divergences) {
    constexpr std::int64_t C = 3, V = 17;
    Problem p = problem(DType::f64, C, V, V);
    p.share = 1;
    const Result r = run(s, d, p, DType::f64);
    const auto loss = [&] {
      const Result now = run(s, d, p, DType::f64);
      return now.divergence.get(0) + now.divergence.get(1) + now.divergence.get(2);
    };
    for (std::int64_t i = 0; i < C * V; ++i)
      EXPECT_NEAR(r.dlogits.get(i), p.weight * test::difference(p.student, i, loss), 1e-8);
  }
}

/// Ranks with whole leaves of the vocabulary exchange maxima and sums and get the bits of one rank; padding, which both
/// models have, is not seen.
TEST(Divergence, LeavesOfTheVocabularyOverRanksAreTheWhole) {
  constexpr std::int64_t C = 5, V = 1096, leaves = 8, vocabulary = V - 3;
  for (DType dtype : {DType::f64, DType::f32})
    for (const Divergence& d : all_divergences) {
      const Problem p = problem(dtype, C, V, vocabulary);
      for (std::int64_t i = 0; i < C; ++i)
        for (std::int64_t v = vocabulary; v < V; ++v) p.student.set(i * V + v, 100), p.teacher.set(i * V + v, -50);
      test::on_every_stream([&](const Stream& s) {
        const auto over = [&](std::int64_t ranks) {
          const std::int64_t n = V / ranks, held = leaves / ranks;
          Sums sums(dtype, C);
          std::vector<Buffer> students, teachers;
          const auto part = [&](const Buffer& of, std::int64_t r) {
            Buffer shard(dtype, {C, n});
            for (std::int64_t i = 0; i < C * n; ++i) shard.set(i, of.get(i / n * V + r * n + i % n));
            mask_padding(s, r * n, vocabulary, shard);
            return shard;
          };
          for (std::int64_t i = 0; i < C; ++i) sums.student_max.set(i, -1e30), sums.teacher_max.set(i, -1e30);
          for (std::int64_t r = 0; r < ranks; ++r) {
            students.push_back(part(p.student, r)), teachers.push_back(part(p.teacher, r));
            Buffer a(dtype, {C}), b(dtype, {C});
            softmax_max(s, students.back(), a), softmax_max(s, teachers.back(), b);
            for (std::int64_t i = 0; i < C; ++i) {
              sums.student_max.set(i, std::max(sums.student_max.get(i), a.get(i)));
              sums.teacher_max.set(i, std::max(sums.teacher_max.get(i), b.get(i)));
            }
          }
          const auto joined = [&](const Buffer& sum, const auto& partials_of) {
            Buffer all(dtype, {leaves, C});
            for (std::int64_t r = 0; r < ranks; ++r)
              partials_of(static_cast<std::size_t>(r), all->rows(r * held, (r + 1) * held));
            tree_sum(s, all, sum);
          };
          joined(sums.plain_sum,
                 [&](std::size_t r, const Tensor& to) { tempered_sum(s, 1, students[r], sums.student_max, to, held); });
          joined(sums.student_sum, [&](std::size_t r, const Tensor& to) {
            tempered_sum(s, d.temperature, students[r], sums.student_max, to, held);
          });
          joined(sums.teacher_sum, [&](std::size_t r, const Tensor& to) {
            tempered_sum(s, d.temperature, teachers[r], sums.teacher_max, to, held);
          });
          const auto rows = [&](std::size_t r) {
            return std::pair(TemperedRows{students[r], sums.student_max, sums.student_sum},
                             TemperedRows{teachers[r], sums.teacher_max, sums.teacher_sum});
          };
          Result whole{Buffer(dtype, {C}), Buffer(dtype, {C}), Buffer(dtype, {C}), Buffer(dtype, {C, V})};
          Buffer unused(dtype, {leaves, C});
          joined(whole.loss, [&](std::size_t r, const Tensor& to) {
            divergence_sums(s, d, rows(r).first, rows(r).second, to, unused->rows(0, held), held);
          });
          joined(whole.mean, [&](std::size_t r, const Tensor& to) {
            divergence_sums(s, d, rows(r).first, rows(r).second, unused->rows(0, held), to, held);
          });
          for (std::int64_t r = 0; r < ranks; ++r) {
            const auto [student, teacher] = rows(static_cast<std::size_t>(r));
            Buffer d_here(dtype, {C, n});
            divergence_finish(s, d, p.weight, p.share, student, teacher,
                              {whole.loss, whole.mean, sums.plain_sum, p.targets}, r * n, whole.divergence, d_here);
            for (std::int64_t i = 0; i < C * n; ++i) whole.dlogits.set(i / n * V + r * n + i % n, d_here.get(i));
          }
          return whole;
        };
        const Result one = over(1);
        Problem narrow{Buffer(dtype, {C, vocabulary}), Buffer(dtype, {C, vocabulary}), p.targets, p.weight, p.share};
        for (std::int64_t i = 0; i < C * vocabulary; ++i) {
          const std::int64_t from = i / vocabulary * V + i % vocabulary;
          narrow.student.set(i, p.student.get(from)), narrow.teacher.set(i, p.teacher.get(from));
        }
        for (std::int64_t row = 0; row < C; ++row) {
          const Dense expected(d, narrow, row);
          EXPECT_NEAR(one.divergence.get(row), double(expected.divergence),
                      200 * test::unit_of(dtype) * (1 + double(expected.divergence)));
          for (std::int64_t v = vocabulary; v < V; ++v) EXPECT_EQ(one.dlogits.get(row * V + v), 0.0);
        }
        for (std::int64_t ranks : {2, 4, 8}) {
          const Result r = over(ranks);
          EXPECT_TRUE(r.divergence == one.divergence && r.dlogits == one.dlogits) << ranks << " ranks";
        }
      });
    }
}

TEST(Divergence, InPlaceAndExtremes) {
  ThreadPool pool(1);
  const Stream s(pool);
  for (DType dtype : {DType::f64, DType::f32})
    for (const Divergence& d : all_divergences) {
      constexpr std::int64_t C = 3, V = 1030;
      Problem p = problem(dtype, C, V, V);
      const Result apart = run(s, d, p, dtype);
      Sums sums(dtype, C);
      softmax_max(s, p.student, sums.student_max), softmax_max(s, p.teacher, sums.teacher_max);
      tempered_sum(s, 1, p.student, sums.student_max, sums.plain_sum);
      tempered_sum(s, d.temperature, p.student, sums.student_max, sums.student_sum);
      tempered_sum(s, d.temperature, p.teacher, sums.teacher_max, sums.teacher_sum);
      Buffer in_place = p.student, divergence(dtype, {C});
      divergence_finish(s, d, p.weight, p.share, {in_place, sums.student_max, sums.student_sum},
                        {p.teacher, sums.teacher_max, sums.teacher_sum},
                        {apart.loss, apart.mean, sums.plain_sum, p.targets}, 0, divergence, in_place);
      EXPECT_TRUE(in_place == apart.dlogits && divergence == apart.divergence);
      // Equal models: nothing to learn. Certain ones that differ: finite. What is not finite shows.
      Problem same{p.student, p.student, p.targets, 1, 1};
      const Result none = run(s, d, same, dtype);
      for (std::int64_t i = 0; i < C; ++i) EXPECT_NEAR(none.divergence.get(i), 0, 1e-4);
      for (std::int64_t i = 0; i < C * V; ++i) EXPECT_NEAR(none.dlogits.get(i), 0, 1e-6);
      const Problem certain{Buffer(dtype, {1, 2}, {3000, 0}), Buffer(dtype, {1, 2}, {0, 3000}),
                            Buffer(DType::i32, {1}, {0}), 1, 1};
      const Result far = run(s, d, certain, dtype);
      EXPECT_TRUE(std::isfinite(far.divergence.get(0)) && std::isfinite(far.dlogits.get(0)));
      EXPECT_GT(far.divergence.get(0), 0.05);
      const double nan = std::nan("");
      for (int model = 0; model < 2; ++model) {
        const Problem bad{Buffer(dtype, {1, 2}, {model == 0 ? nan : 1, 0}), Buffer(dtype, {1, 2}, {model ? nan : 1, 0}),
                          Buffer(DType::i32, {1}, {0}), 1, 1};
        const Result r = run(s, d, bad, dtype);
        EXPECT_TRUE(std::isnan(r.divergence.get(0)) && std::isnan(r.dlogits.get(0))) << model;
      }
    }
}

}  // namespace
}  // namespace fourmi
