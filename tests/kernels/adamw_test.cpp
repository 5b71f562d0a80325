#include "kernels/ops/adamw.h"

#include <cmath>

#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"
#include "tests/kernels/every_stream.h"

namespace fourmi {
namespace {

using test::Buffer;
using test::on_streams_of_device;
using test::stream_of;

constexpr std::int64_t n = 70001;  // several ranges of work, not a multiple of any vector

/// The sequence of docs/numerics.md, once more, in scalar code.
template <class A>
struct Reference {
  AdamW o;
  double power(double base) const {
    double result = 1;
    for (std::int64_t t = o.step; t > 0; t /= 2, base *= base)
      if (t % 2) result *= base;
    return result;
  }
  void step(const Buffer& grad, Buffer& master, Buffer& exp_avg, Buffer& exp_avg_sq, Buffer& weight) const {
    const A s(o.grad_scale), b1(o.beta1), b2(o.beta2), a1(1 - o.beta1), a2(1 - o.beta2), eps(o.epsilon);
    const A c1(1 / (1 - power(o.beta1))), c2(1 / (1 - power(o.beta2))), decay(o.weight_decay), rate(o.learning_rate);
    for (std::int64_t i = 0; i < grad.size(); ++i) {
      const A g = A(grad.get(i)) * s, w0(master.get(i));
      const A m = std::fma(b1, A(exp_avg.get(i)), a1 * g);
      const A v = std::fma(b2, A(exp_avg_sq.get(i)), (a2 * g) * g);
      const A u = (m * c1) / (std::sqrt(v * c2) + eps);
      const A w = std::fma(-rate, std::fma(decay, w0, u), w0);
      exp_avg.set(i, double(m));
      exp_avg_sq.set(i, double(v));
      master.set(i, double(w));
      weight.set(i, double(w));
    }
  }
};

struct Case {
  DType master, moments, weight;
};
class AdamWTest : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(
    Dtypes, AdamWTest,
    ::testing::Values(Case{DType::f64, DType::f64, DType::f64}, Case{DType::f32, DType::f32, DType::f32},
                      Case{DType::f32, DType::f32, DType::bf16}, Case{DType::f32, DType::bf16, DType::bf16},
                      Case{DType::f32, DType::bf16, DType::f32}, Case{DType::f64, DType::bf16, DType::f32}));

TEST_P(AdamWTest, BitsOfTheDocumentedSequence) {
  const auto [dtype, moments, compute] = GetParam();
  Buffer master = test::noisy(dtype, {n}, 1, 0.02), exp_avg(moments, {n}, std::vector<double>(n, 0)),
         exp_avg_sq = exp_avg, weight(compute, {n});
  AdamW o{.learning_rate = 3e-3, .grad_scale = 1.0 / 4096};
  for (o.step = 1; o.step <= 3; ++o.step) {
    Buffer grad = test::noisy(dtype, {n}, static_cast<std::uint64_t>(10 + o.step), 100);
    const Buffer before_master = master, before_avg = exp_avg, before_avg_sq = exp_avg_sq;
    if (dtype == DType::f64) {
      Reference<double>{o}.step(grad, master, exp_avg, exp_avg_sq, weight);
    } else {
      Reference<float>{o}.step(grad, master, exp_avg, exp_avg_sq, weight);
    }
    on_streams_of_device([&](const Stream& s) {
      Buffer m = before_master, a = before_avg, q = before_avg_sq, w(compute, {n});
      adamw_step(s, o, grad, m, a, q, w);
      EXPECT_TRUE(m == master);
      EXPECT_TRUE(a == exp_avg);
      EXPECT_TRUE(q == exp_avg_sq);
      EXPECT_TRUE(w == weight);
      if (compute == dtype) {  // the weight may be the master's memory
        m = before_master, a = before_avg, q = before_avg_sq;
        adamw_step(s, o, grad, m, a, q, m);
        EXPECT_TRUE(m == master);
        EXPECT_TRUE(a == exp_avg);
      }
    });
  }
}

// The paper's algorithm 2 in double, with std::pow and no fused operation.
TEST(AdamW, FollowsThePaper) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool);
  constexpr std::int64_t size = 100;
  for (DType dtype : {DType::f64, DType::f32}) {
    const AdamW base{
        .learning_rate = 0.01, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.1, .grad_scale = 0.5};
    Buffer w = test::noisy(dtype, {size}, 1), m(dtype, {size}, std::vector<double>(size, 0)), v = m;
    std::vector<double> ew(size), em(size, 0), ev(size, 0);
    for (std::int64_t i = 0; i < size; ++i) ew[static_cast<std::size_t>(i)] = w.get(i);
    for (int t = 1; t <= 20; ++t) {
      Buffer grad = test::noisy(dtype, {size}, static_cast<std::uint64_t>(t));
      AdamW o = base;
      o.step = t;
      adamw_step(stream, o, grad, w, m, v, w);
      for (std::size_t i = 0; i < size; ++i) {
        const double g = grad.get(static_cast<std::int64_t>(i)) * 0.5;
        em[i] = 0.9 * em[i] + 0.1 * g;
        ev[i] = 0.95 * ev[i] + 0.05 * g * g;
        const double m_hat = em[i] / (1 - std::pow(0.9, t)), v_hat = ev[i] / (1 - std::pow(0.95, t));
        ew[i] -= 0.01 * (m_hat / (std::sqrt(v_hat) + 1e-6) + 0.1 * ew[i]);
      }
    }
    const double tolerance = dtype == DType::f64 ? 1e-14 : 2e-6;
    const auto close = [&](Buffer& got, const std::vector<double>& want) {
      return test::worst_error(got, [&](std::int64_t i) { return want[static_cast<std::size_t>(i)]; });
    };
    EXPECT_LE(close(w, ew), tolerance);
    EXPECT_LE(close(m, em), tolerance);
    EXPECT_LE(close(v, ev), tolerance);
  }
}

TEST(AdamW, ZeroGradientOnlyDecays) {
  ThreadPool pool(1);
  Buffer w(DType::f64, {3}, {1, -2, 0}), g(DType::f64, {3}, {0, 0, 0}), m = g, v = g;
  adamw_step(stream_of(pool), {.learning_rate = 0.1, .weight_decay = 0.5}, g, w, m, v, w);
  EXPECT_NEAR(w.get(0), 0.95, 1e-15);
  EXPECT_NEAR(w.get(1), -1.9, 1e-15);
  EXPECT_EQ(w.get(2), 0.0);
}

TEST(AdamW, FirstStepMovesByTheRate) {
  ThreadPool pool(1);
  Buffer w(DType::f64, {2}, {1, 1}), g(DType::f64, {2}, {1e-3, -50}), m(DType::f64, {2}, {0, 0}), v = m;
  adamw_step(stream_of(pool), {.learning_rate = 0.1, .epsilon = 1e-12, .weight_decay = 0}, g, w, m, v, w);
  EXPECT_NEAR(w.get(0), 0.9, 1e-9);
  EXPECT_NEAR(w.get(1), 1.1, 1e-9);
}

TEST(AdamW, NotANumberIsNotHidden) {
  ThreadPool pool(1);
  Buffer w(DType::f32, {2}, {1, 1}), g(DType::f32, {2}, {std::nan(""), 1}), m(DType::bf16, {2}, {0, 0}),
      v = m, out(DType::bf16, {2});
  adamw_step(stream_of(pool), {}, g, w, m, v, out);
  for (const Buffer* b : {&w, &m, &v, &out}) {
    EXPECT_TRUE(std::isnan(b->get(0)));
    EXPECT_FALSE(std::isnan(b->get(1)));
  }
}

// Tensors one after another in one buffer: none but the first begins where a vector does.
TEST(AdamW, AnySizeAndAddress) {
  ThreadPool pool(1);
  const AdamW o{.learning_rate = 3e-3, .step = 2, .grad_scale = 0.25};
  for (std::int64_t size : {1, 2, 3, 5, 8, 1003})
    for (std::int64_t apart : {size, (size + 7) / 8 * 8}) {
      const Buffer all = test::noisy(DType::f32, {5 * apart}, 3);
      const auto part = [&](std::int64_t i) { return all->rows(i * apart, i * apart + size); };
      for (std::int64_t i = 0; i < size; ++i) all.set(3 * apart + i, std::abs(all.get(3 * apart + i)));
      std::vector<Buffer> one;
      for (std::int64_t i = 0; i < 5; ++i) {
        one.emplace_back(DType::f32, Shape{size});
        std::memcpy(one.back()->data, part(i).data, static_cast<std::size_t>(one.back()->bytes()));
      }
      Reference<float>{o}.step(one[0], one[1], one[2], one[3], one[4]);
      adamw_step(stream_of(pool), o, part(0), part(1), part(2), part(3), part(4));
      for (std::int64_t i = 0; i < 5; ++i)
        EXPECT_TRUE(test::same_bytes(part(i), one[static_cast<std::size_t>(i)])) << size << " " << apart << " " << i;
    }
}

TEST(AdamW, ChecksItsArguments) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  Buffer x(DType::f32, {2}, {1, 1}), y = x, z = x, longer(DType::f32, {3}, {1, 1, 1}), half(DType::bf16, {2}, {1, 1});
  EXPECT_THROW(adamw_step(s, {.step = 0}, x, x, y, z, x), Error);
  EXPECT_THROW(adamw_step(s, {}, longer, x, y, z, x), Error);
  EXPECT_THROW(adamw_step(s, {}, x, x, y, half, x), Error);
  EXPECT_THROW(adamw_step(s, {}, half, x, y, z, x), Error);
  Buffer none(DType::f32, {0});
  adamw_step(s, {}, none, none, none, none, none);
}

}  // namespace
}  // namespace fourmi
