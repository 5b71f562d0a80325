#include "kernels/ops/sparse_divergence.h"

#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "kernels/ops/cross_entropy.h"
#include "kernels/ops/tree_sum.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using test::Buffer;
using Kind = SparseRows::Kind;

struct Scene {
  Kind kind;
  double temperature, share;
};
const Scene scenes[] = {{Kind::top_k, 1, 1},    {Kind::top_k, 1, 0.6}, {Kind::top_k, 2.5, 0.7},
                        {Kind::top_k, 0.8, 1},  {Kind::sampled, 1, 1}, {Kind::sampled, 1.5, 0.4},
                        {Kind::sampled, 1, 0.3}};

constexpr std::int64_t C = 5, V = 48, K = 6;
constexpr double loss_weight = 0.37;

struct Problem {
  Buffer logits{DType::f64, {C, V}}, targets{DType::i32, {C}}, ids{DType::i32, {C, K}},
      probabilities{DType::f64, {C, K}}, rest{DType::f64, {C}};

  explicit Problem(Kind kind) {
    std::mt19937_64 random(7);
    std::normal_distribution<double> normal;
    for (std::int64_t i = 0; i < C * V; ++i) logits->as<double>()[i] = 2 * normal(random);
    for (std::int64_t i = 0; i < C; ++i) {
      logits->as<double>()[i * V + V - 1] = -std::numeric_limits<double>::infinity();  // padding
      targets->as<std::int32_t>()[i] = i == 3 ? -1 : static_cast<std::int32_t>((7 * i) % (V - 1));
      double mass = 0;
      for (std::int64_t k = 0; k < K; ++k) {
        const bool absent = i == 1 && k == 2;
        // The target of row 0 is known too.
        ids->as<std::int32_t>()[i * K + k] = absent ? -1 : static_cast<std::int32_t>((11 * k + 5 * i) % (V - 1));
        const double p = absent ? 0 : 0.13 / static_cast<double>(k + 1);
        probabilities->as<double>()[i * K + k] = p;
        mass += p;
      }
      rest->as<double>()[i] = kind == Kind::sampled ? 1.9 : i == 2 ? 0 : 1 - mass;
    }
  }
  SparseRows rows(Kind kind) const { return {kind, ids, probabilities, rest}; }
};

/// As the header says, without a thought for how it is computed.
double divergence_of(const Scene& s, const Problem& p, std::int64_t i) {
  const double* z = p.logits->as<double>() + i * V;
  double sum = 0;
  for (std::int64_t v = 0; v < V; ++v) sum += std::exp(z[v] / s.temperature);
  std::map<std::int64_t, double> known;
  for (std::int64_t k = 0; k < K; ++k)
    if (p.ids->as<std::int32_t>()[i * K + k] >= 0)
      known[p.ids->as<std::int32_t>()[i * K + k]] = p.probabilities->as<double>()[i * K + k];
  double loss = 0, rest_of_student = 0;
  for (std::int64_t v = 0; v < V; ++v) {
    const double q = std::exp(z[v] / s.temperature) / sum;
    if (!known.contains(v))
      rest_of_student += q;
    else
      loss += known[v] * ((s.kind == Kind::top_k ? std::log(known[v]) : 0) - std::log(q));
  }
  const double rest = p.rest->as<double>()[i];
  if (s.kind == Kind::sampled)
    loss -= rest;
  else if (rest > 0)
    loss += rest * std::log(rest / rest_of_student);
  return s.temperature * s.temperature * loss;
}

double loss_of(const Scene& s, const Problem& p, std::int64_t i) {
  const std::int32_t target = p.targets->as<std::int32_t>()[i];
  if (target < 0) return 0;
  const double* z = p.logits->as<double>() + i * V;
  double sum = 0;
  for (std::int64_t v = 0; v < V; ++v) sum += std::exp(z[v]);
  return (1 - s.share) * (std::log(sum) - z[target]) + s.share * divergence_of(s, p, i);
}

struct Result {
  std::vector<double> divergence, dlogits;
};

/// The columns cut over so many ranks, one after the other.
Result run(const Stream& stream, const Scene& s, const Problem& p, std::int64_t ranks, std::int64_t leaves) {
  const std::int64_t n = V / ranks, each = leaves / ranks;
  Buffer max(DType::f64, {C}), plain(DType::f64, {C}), sum(DType::f64, {C});
  softmax_max(stream, p.logits, max);
  tempered_sum(stream, 1, p.logits, max, plain);
  tempered_sum(stream, s.temperature, p.logits, max, sum);
  const SparseRows rows = p.rows(s.kind);
  Buffer all_loss(DType::f64, {leaves, C}), all_unknown(DType::f64, {leaves, C}), loss(DType::f64, {C}),
      unknown(DType::f64, {C});
  std::vector<Buffer> parts;
  for (std::int64_t r = 0; r < ranks; ++r) {
    parts.emplace_back(DType::f64, Shape{C, n});
    for (std::int64_t i = 0; i < C; ++i)
      std::copy_n(p.logits->as<double>() + i * V + r * n, n, parts.back()->as<double>() + i * n);
    const std::vector<double> before(parts.back()->as<double>(), parts.back()->as<double>() + C * n);
    unknown_sum(stream, s.temperature, rows, parts.back(), max, r * n, all_unknown->rows(r * each, (r + 1) * each),
                each);
    EXPECT_TRUE(std::equal(before.begin(), before.end(), parts.back()->as<double>()));
    sparse_divergence_sums(stream, s.temperature, rows, {parts.back(), max, sum}, r * n,
                           all_loss->rows(r * each, (r + 1) * each), each);
  }
  tree_sum(stream, all_loss, loss);
  tree_sum(stream, all_unknown, unknown);
  Result result{std::vector<double>(C), std::vector<double>(C * V)};
  for (std::int64_t r = 0; r < ranks; ++r) {
    Buffer divergence(DType::f64, {C}), d(DType::f64, {C, n});
    sparse_divergence_finish(stream, s.temperature, loss_weight, s.share, rows,
                             {parts[static_cast<std::size_t>(r)], max, sum}, {loss, unknown, plain, p.targets}, r * n,
                             divergence, d);
    std::copy_n(divergence->as<double>(), C, result.divergence.begin());
    for (std::int64_t i = 0; i < C; ++i)
      std::copy_n(d->as<double>() + i * n, n, result.dlogits.begin() + i * V + r * n);
  }
  return result;
}

TEST(SparseDivergence, IsTheFormulaAndItsGradientFiniteDifferences) {
  ThreadPool pool(2);
  const Stream stream(pool);
  for (const Scene& s : scenes) {
    SCOPED_TRACE(fmt::format("{} at {}, share {}", static_cast<int>(s.kind), s.temperature, s.share));
    Problem p(s.kind);
    const Result got = run(stream, s, p, 1, 1);
    for (std::int64_t i = 0; i < C; ++i) {
      const bool counts = p.targets->as<std::int32_t>()[i] >= 0;
      EXPECT_NEAR(got.divergence[static_cast<std::size_t>(i)], counts ? divergence_of(s, p, i) : 0, 1e-13);
      for (std::int64_t v = 0; v < V - 1; ++v) {
        double& z = p.logits->as<double>()[i * V + v];
        const double kept = z, h = 1e-5;
        z = kept + h;
        const double above = loss_of(s, p, i);
        z = kept - h;
        const double below = loss_of(s, p, i);
        z = kept;
        EXPECT_NEAR(got.dlogits[static_cast<std::size_t>(i * V + v)], loss_weight * (above - below) / (2 * h), 2e-10)
            << "row " << i << ", column " << v;
      }
      EXPECT_EQ(got.dlogits[static_cast<std::size_t>(i * V + V - 1)], 0) << "padding";
    }
  }
}

TEST(SparseDivergence, CutsOfTheVocabularyChangeNoBit) {
  ThreadPool pool(1);
  const Stream stream(pool);
  for (const Scene& s : scenes) {
    const Problem p(s.kind);
    const Result one = run(stream, s, p, 1, 4);
    for (const std::int64_t ranks : {2, 4}) {
      const Result cut = run(stream, s, p, ranks, 4);
      EXPECT_EQ(one.divergence, cut.divergence);
      EXPECT_EQ(one.dlogits, cut.dlogits);
    }
  }
}

/// All tokens known: the divergence of the whole distributions.
TEST(SparseDivergence, OfAllTokensIsTheDenseOne) {
  ThreadPool pool(1);
  const Stream stream(pool);
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  const std::int64_t n = 16;
  Buffer student(DType::f64, {2, n}), teacher(DType::f64, {2, n}), targets(DType::i32, {2}), ids(DType::i32, {2, n}),
      probabilities(DType::f64, {2, n}), rest(DType::f64, {2});
  for (std::int64_t i = 0; i < 2 * n; ++i)
    student->as<double>()[i] = normal(random), teacher->as<double>()[i] = normal(random),
    ids->as<std::int32_t>()[i] = static_cast<std::int32_t>(i % n);
  targets->as<std::int32_t>()[0] = 3, targets->as<std::int32_t>()[1] = 15;
  rest->as<double>()[0] = rest->as<double>()[1] = 0;
  Buffer max(DType::f64, {2}), sum(DType::f64, {2}), other_max(DType::f64, {2}), other_sum(DType::f64, {2}),
      loss(DType::f64, {2}), mean(DType::f64, {2}), unknown(DType::f64, {2});
  softmax_max(stream, student, max), softmax_max(stream, teacher, other_max);
  tempered_sum(stream, 1, student, max, sum), tempered_sum(stream, 1, teacher, other_max, other_sum);
  for (std::int64_t i = 0; i < 2 * n; ++i)
    probabilities->as<double>()[i] =
        std::exp(teacher->as<double>()[i] - other_max->as<double>()[i / n]) / other_sum->as<double>()[i / n];
  Buffer dense(DType::f64, {2}), sparse(DType::f64, {2}), dense_d(DType::f64, {2, n}), sparse_d(DType::f64, {2, n});
  const TemperedRows of_student{student, max, sum}, of_teacher{teacher, other_max, other_sum};
  divergence_sums(stream, {}, of_student, of_teacher, loss, mean);
  divergence_finish(stream, {}, 1, 1, of_student, of_teacher, {loss, mean, sum, targets}, 0, dense, dense_d);
  const SparseRows rows{Kind::top_k, ids, probabilities, rest};
  unknown_sum(stream, 1, rows, student, max, 0, unknown);
  sparse_divergence_sums(stream, 1, rows, of_student, 0, loss);
  sparse_divergence_finish(stream, 1, 1, 1, rows, of_student, {loss, unknown, sum, targets}, 0, sparse, sparse_d);
  for (std::int64_t i = 0; i < 2; ++i) EXPECT_NEAR(dense->as<double>()[i], sparse->as<double>()[i], 1e-14);
  for (std::int64_t i = 0; i < 2 * n; ++i) EXPECT_NEAR(dense_d->as<double>()[i], sparse_d->as<double>()[i], 1e-15);
}

}  // namespace
}  // namespace fourmi
