#include "kernels/ops/gqa_assemble.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>

#include "kernels/ops/rotary.h"
#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using namespace test;

struct Scene {
  DType dtype;
  std::int64_t M, H, G, Q;
  bool normed;
  DType acc = accumulate_dtype(dtype);
  std::int64_t A = (H + 2 * G) * Q;
  Buffer table = make_table(), positions = make_positions();
  Buffer a = noisy(dtype, {M, A}, 1), q_weight = noisy(acc, {Q}, 2), k_weight = noisy(acc, {Q}, 3);

  GqaAssemble op() const { return {H, G, Q, 1e-3}; }
  Buffer make_table() const {
    Buffer t(acc, {32, Q / 2, 2});
    rotary_table(rotary_frequencies(Q, 100.0), 1.0, t);
    return t;
  }
  Buffer make_positions() const {
    Buffer p(DType::i32, {M});
    p.fill([](std::int64_t i) { return static_cast<double>((i * 11) % 32); });
    return p;
  }
  HeadNorm norm(const Buffer& rstd) const { return normed ? HeadNorm{q_weight, k_weight, rstd} : HeadNorm{}; }
};

struct Operands {
  explicit Operands(const Scene& s)
      : q(s.dtype, {s.M, s.H, s.Q}),
        k(s.dtype, {s.M, s.G, s.Q}),
        v(s.dtype, {s.M, s.G, s.Q}),
        rstd(s.acc, {s.M, s.H + s.G}) {}
  Buffer q, k, v, rstd;
};

Operands forward(const Stream& stream, const Scene& s) {
  Operands o(s);
  gqa_assemble_forward(stream, s.op(), s.table, s.positions, s.a, s.norm(o.rstd), o.q, o.k, o.v);
  return o;
}

/// Element i of a head that begins at column `first` of row m, by the definition in double.
double expected(const Scene& s, std::int64_t m, std::int64_t first, const Buffer& weight, std::int64_t i) {
  double squares = 0;
  for (std::int64_t d = 0; d < s.Q; ++d) squares += std::pow(s.a.get(m * s.A + first + d), 2);
  const double scale = s.normed ? 1 / std::sqrt(squares / static_cast<double>(s.Q) + 1e-3) : 1.0;
  auto value = [&](std::int64_t d) { return s.a.get(m * s.A + first + d) * scale * (s.normed ? weight.get(d) : 1.0); };
  const std::int64_t half = s.Q / 2, j = i % half;
  const double angle = s.positions.get(m) * std::pow(100.0, -2.0 * static_cast<double>(j) / static_cast<double>(s.Q));
  const std::complex<double> z = std::complex<double>(value(j), value(j + half)) * std::polar(1.0, angle);
  return i < half ? z.real() : z.imag();
}

TEST(GqaAssemble, NormalisesRotatesAndCopies) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (bool normed : {false, true}) {
      const Scene s{dtype, 5, 6, 2, 20, normed};
      const Operands o = forward(stream_of(pool), s);
      const double unit = 32 * unit_of(dtype);  // our sine against the C library's, and a sum in another order
      for (std::int64_t m = 0; m < s.M; ++m)
        for (std::int64_t i = 0; i < s.Q; ++i) {
          for (std::int64_t h = 0; h < s.H; ++h)
            EXPECT_NEAR(o.q.get((m * s.H + h) * s.Q + i), expected(s, m, h * s.Q, s.q_weight, i), unit);
          for (std::int64_t g = 0; g < s.G; ++g) {
            EXPECT_NEAR(o.k.get((m * s.G + g) * s.Q + i), expected(s, m, (s.H + g) * s.Q, s.k_weight, i), unit);
            EXPECT_EQ(o.v.get((m * s.G + g) * s.Q + i), s.a.get(m * s.A + (s.H + s.G + g) * s.Q + i));
          }
        }
      EXPECT_EQ(is_poison(o.rstd, 0), !normed);
    }
}

TEST(GqaAssemble, GradientsAgainstFiniteDifferences) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool);
  for (bool normed : {false, true}) {
    const Scene s{DType::f64, 3, 4, 2, 6, normed};
    const Buffer dq = noisy(DType::f64, {s.M, s.H, s.Q}, 4), dk = noisy(DType::f64, {s.M, s.G, s.Q}, 5),
                 dv = noisy(DType::f64, {s.M, s.G, s.Q}, 6);
    const auto value = [&] {
      const Operands o = forward(stream, s);
      double sum = 0;
      for (std::int64_t i = 0; i < dq.size(); ++i) sum += o.q.get(i) * dq.get(i);
      for (std::int64_t i = 0; i < dk.size(); ++i) sum += o.k.get(i) * dk.get(i) + o.v.get(i) * dv.get(i);
      return sum;
    };
    const Operands o = forward(stream, s);
    const Buffer da(DType::f64, {s.M, s.A});
    gqa_assemble_backward_input(stream, s.op(), s.table, s.positions, dq, dk, dv, s.a, s.norm(o.rstd), da);
    for (std::int64_t i = 0; i < da.size(); ++i) EXPECT_NEAR(da.get(i), difference(s.a, i, value), 1e-8) << i;
    if (!normed) continue;
    const Buffer dqw(DType::f64, {s.Q}), dkw(DType::f64, {s.Q});
    dqw.fill([](std::int64_t) { return 2.0; });  // is added to
    dkw.fill([](std::int64_t) { return 3.0; });
    gqa_assemble_backward_weight(stream, s.op(), s.table, s.positions, dq, dk, s.a, o.rstd, dqw, dkw);
    for (std::int64_t i = 0; i < s.Q; ++i) {
      EXPECT_NEAR(dqw.get(i) - 2, difference(s.q_weight, i, value), 1e-8) << i;
      EXPECT_NEAR(dkw.get(i) - 3, difference(s.k_weight, i, value), 1e-8) << i;
    }
  }
}

struct Sizes {
  std::int64_t M, H, G, Q;
};
/// Heads of whole vectors and not, of one lane and of more pairs than 32 lanes take at once; more heads than a card's
/// block takes at once.
const Sizes many_sizes[] = {{7, 32, 4, 128}, {3, 5, 1, 24},  {2, 3, 3, 1040}, {4, 2, 1, 10},
                            {3, 1, 1, 2},    {2, 70, 2, 64}, {1, 2, 2, 144}};

/// A tensor like x whose memory begins one element behind a vector's border.
struct Shifted {
  explicit Shifted(const Tensor& x)
      : memory(x.dtype, {x.num_elements() + 1}), tensor(memory->rows(1, x.num_elements() + 1).view(x.shape)) {
    std::memcpy(tensor.data, x.data, static_cast<std::size_t>(x.bytes()));
  }
  Buffer memory;
  Tensor tensor;
};

TEST(GqaAssemble, HeadsOfAnySize) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (const Sizes& k : many_sizes)
      for (bool normed : {false, true}) {
        SCOPED_TRACE(::testing::Message()
                     << name_of(dtype) << " " << k.H << " heads of " << k.Q << (normed ? " normed" : ""));
        const Scene s{dtype, k.M, k.H, k.G, k.Q, normed};
        const Operands want = forward(Stream(pool), s), got = forward(stream_of(pool), s);
        const Buffer dq = noisy(dtype, {s.M, s.H, s.Q}, 4), dk = noisy(dtype, {s.M, s.G, s.Q}, 5),
                     dv = noisy(dtype, {s.M, s.G, s.Q}, 6);
        const Buffer da_want(dtype, {s.M, s.A}), da_got(dtype, {s.M, s.A});
        const auto backward = [&](const Stream& stream, const Tensor& a, const Buffer& da) {
          gqa_assemble_backward_input(stream, s.op(), s.table, s.positions, dq, dk, dv, a, s.norm(want.rstd), da);
        };
        backward(Stream(pool), s.a, da_want);
        backward(stream_of(pool), s.a, da_got);
        // Sums over a head in another order; values of some units that were rounded the other way.
        const double unit = normed ? 4 * unit_of(dtype) + 100 * unit_of(s.acc) : 0;
        const auto near = [&](const Buffer& x, const Buffer& y, const char* what) {
          EXPECT_LE(worst_error(x, [&](std::int64_t i) { return y.get(i); }), unit) << what;
        };
        near(got.q, want.q, "q");
        near(got.k, want.k, "k");
        EXPECT_TRUE(got.v == want.v);
        if (normed) near(got.rstd, want.rstd, "rstd");
        near(da_got, da_want, "da");
        const Shifted a(s.a);
        const Buffer da_shifted(dtype, {s.M, s.A});
        backward(stream_of(pool), a.tensor, da_shifted);
        near(da_shifted, da_want, "da from a at any address");
        Operands shifted(s);
        gqa_assemble_forward(stream_of(pool), s.op(), s.table, s.positions, a.tensor, s.norm(shifted.rstd), shifted.q,
                             shifted.k, shifted.v);
        near(shifted.q, want.q, "q from a at any address");
      }
}

TEST(GqaAssemble, WeightGradientsSumManyRows) {
  ThreadPool pool(2);
  for (DType dtype : float_dtypes())
    for (const Sizes& k : {Sizes{150, 8, 2, 128}, Sizes{3, 5, 1, 24}, Sizes{2, 3, 3, 1040}, Sizes{400, 2, 1, 10},
                           Sizes{1, 1, 1, 2}, Sizes{90, 3, 2, 72}}) {
      const Scene s{dtype, k.M, k.H, k.G, k.Q, true};
      const Operands o = forward(Stream(pool), s);
      const Buffer dq = noisy(dtype, {s.M, s.H, s.Q}, 4), dk = noisy(dtype, {s.M, s.G, s.Q}, 5);
      const auto run = [&](const Stream& stream) {
        std::pair<Buffer, Buffer> dw(noisy(s.acc, {s.Q}, 6), noisy(s.acc, {s.Q}, 7));
        gqa_assemble_backward_weight(stream, s.op(), s.table, s.positions, dq, dk, s.a, o.rstd, dw.first, dw.second);
        return dw;
      };
      const auto want = run(Stream(pool)), got = run(stream_of(pool));
      // The CPU has a chain of M H terms of up to about 3; relative to 1 + the sum.
      const double unit = 6.0 * static_cast<double>(s.M * s.H + 4) * unit_of(s.acc);
      EXPECT_LE(worst_error(got.first, [&](std::int64_t i) { return want.first.get(i); }), unit) << k.Q;
      EXPECT_LE(worst_error(got.second, [&](std::int64_t i) { return want.second.get(i); }), unit) << k.Q;
      EXPECT_TRUE(run(stream_of(pool)) == got);
    }
}

TEST(GqaAssemble, NoRows) {
  ThreadPool pool(1);
  const Scene s{DType::bf16, 0, 4, 2, 16, true};
  const Operands o = forward(stream_of(pool), s);
  const Buffer dw = noisy(DType::f32, {16}, 1), before = dw, da(DType::bf16, {0, s.A});
  gqa_assemble_backward_input(stream_of(pool), s.op(), s.table, s.positions, o.q, o.k, o.v, s.a, s.norm(o.rstd), da);
  gqa_assemble_backward_weight(stream_of(pool), s.op(), s.table, s.positions, o.q, o.k, s.a, o.rstd, dw, dw);
  EXPECT_TRUE(dw == before);
}

TEST(GqaAssemble, ModeLayoutIsNotForACard) {
  ThreadPool pool(1);
  const Scene s{DType::f32, 3, 4, 2, 16, true};
  const Operands o = forward(stream_of(pool), s);
  const Buffer exact_sum(DType::fx128, {16}, std::vector<double>(16, 0.0)), dw = noisy(DType::f32, {16}, 1);
  const auto run = [&](const GqaAssemble& op, const Buffer& sum, const Cuts& cuts) {
    gqa_assemble_backward_weight(stream_of(pool), op, s.table, s.positions, o.q, o.k, s.a, o.rstd, sum, sum, cuts);
  };
  expect_on_cpu_alone([&] { run(s.op(), exact_sum, {}); });
  expect_on_cpu_alone([&] { run(s.op(), dw, {.rows = 1}); });
  GqaAssemble leaves = s.op();
  leaves.head_leaves = 2;
  expect_on_cpu_alone([&] { run(leaves, dw, {}); });
}

TEST(GqaAssemble, InstructionSetsAndThreadsGiveEqualBits) {
  if (on_card()) GTEST_SKIP() << "a card has neither";
  for (DType dtype : float_dtypes()) {
    const Scene s{dtype, 70, 4, 2, 72, true};  // more than one chunk of pairs, and a part of one
    const Buffer dq = noisy(dtype, {s.M, s.H, s.Q}, 4), dk = noisy(dtype, {s.M, s.G, s.Q}, 5),
                 dv = noisy(dtype, {s.M, s.G, s.Q}, 6);
    std::vector<Buffer> reference;
    on_every_stream([&](const Stream& stream) {
      const Operands o = forward(stream, s);
      std::vector<Buffer> got{o.q, o.k, o.v, o.rstd, Buffer(dtype, {s.M, s.A})};
      gqa_assemble_backward_input(stream, s.op(), s.table, s.positions, dq, dk, dv, s.a, s.norm(o.rstd), got[4]);
      for (DType gradient : {s.acc, DType::fx128})
        for (std::int64_t rows : {0, 1, 3}) {
          const Buffer dqw(gradient, {s.Q}), dkw(gradient, {s.Q});
          dqw.fill([](std::int64_t) { return 0.0; });
          dkw.fill([](std::int64_t) { return 0.0; });
          gqa_assemble_backward_weight(stream, s.op(), s.table, s.positions, dq, dk, s.a, o.rstd, dqw, dkw,
                                       {.rows = rows});
          got.push_back(dqw);
          got.push_back(dkw);
        }
      if (reference.empty()) reference = got;
      for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(got[i] == reference[i]) << i;
    });
  }
}

/// One partial a row in fixed point: two calls over halves give the bits of one over all.
TEST(GqaAssemble, ExactGradientsDoNotSeeTheCut) {
  if (on_card()) GTEST_SKIP() << "exact sums are mode layout's";
  ThreadPool pool(2);
  const Stream stream(pool);
  const Scene s{DType::f32, 8, 4, 2, 10, true};
  const Buffer dq = noisy(DType::f32, {s.M, s.H, s.Q}, 4), dk = noisy(DType::f32, {s.M, s.G, s.Q}, 5);
  const Operands o = forward(stream, s);
  const auto weights = [&](std::initializer_list<std::pair<std::int64_t, std::int64_t>> parts) {
    Buffer dqw(DType::fx128, {s.Q}), dkw(DType::fx128, {s.Q});
    dqw.fill([](std::int64_t) { return 0.0; });
    dkw.fill([](std::int64_t) { return 0.0; });
    for (auto [b, e] : parts)
      gqa_assemble_backward_weight(stream, s.op(), s.table, s.positions->rows(b, e), dq->rows(b, e), dk->rows(b, e),
                                   s.a->rows(b, e), o.rstd->rows(b, e), dqw, dkw, {.rows = 1});
    return std::pair(dqw, dkw);
  };
  EXPECT_TRUE(weights({{0, 8}}) == weights({{5, 8}, {0, 5}}));
}

/// A partial a row and leaf of heads in fixed point: ranks with shares of the heads give the bits of one with all.
TEST(GqaAssemble, ExactGradientsOfHeadLeavesDoNotSeeTheCut) {
  if (on_card()) GTEST_SKIP() << "exact sums are mode layout's";
  ThreadPool pool(2);
  const Stream stream(pool);
  const Scene s{DType::f32, 6, 8, 4, 10, true};
  const Buffer dq = noisy(DType::f32, {s.M, s.H, s.Q}, 4), dk = noisy(DType::f32, {s.M, s.G, s.Q}, 5);
  const Operands o = forward(stream, s);
  const auto zero = [&] {
    return Buffer(DType::fx128, {s.Q}, std::vector<double>(static_cast<std::size_t>(s.Q), 0.0));
  };
  const auto weights = [&](std::int64_t ranks, std::int64_t leaves) {
    const std::int64_t H = s.H / ranks, G = s.G / ranks;
    std::pair<Buffer, Buffer> dw(zero(), zero());
    for (std::int64_t r = 0; r < ranks; ++r) {
      const Buffer q(DType::f32, {s.M, H, s.Q}), k(DType::f32, {s.M, G, s.Q}), a(DType::f32, {s.M, (H + 2 * G) * s.Q});
      const Buffer rstd(DType::f32, {s.M, H + G});
      for (std::int64_t m = 0; m < s.M; ++m) {
        for (std::int64_t i = 0; i < H * s.Q; ++i) {
          q.set(m * H * s.Q + i, dq.get((m * s.H + r * H) * s.Q + i));
          a.set(m * (H + 2 * G) * s.Q + i, s.a.get(m * s.A + r * H * s.Q + i));
        }
        for (std::int64_t i = 0; i < G * s.Q; ++i) {
          k.set(m * G * s.Q + i, dk.get((m * s.G + r * G) * s.Q + i));
          a.set((m * (H + 2 * G) + H) * s.Q + i, s.a.get(m * s.A + (s.H + r * G) * s.Q + i));
        }
        for (std::int64_t h = 0; h < H; ++h) rstd.set(m * (H + G) + h, o.rstd.get(m * (s.H + s.G) + r * H + h));
        for (std::int64_t g = 0; g < G; ++g)
          rstd.set(m * (H + G) + H + g, o.rstd.get(m * (s.H + s.G) + s.H + r * G + g));
      }
      GqaAssemble op = s.op();
      op.num_heads = H, op.num_key_heads = G, op.head_leaves = leaves / ranks;
      gqa_assemble_backward_weight(stream, op, s.table, s.positions, q, k, a, rstd, dw.first, dw.second, {.rows = 1});
    }
    return dw;
  };
  const auto whole = weights(1, 4);
  EXPECT_TRUE(whole == weights(2, 4));
  EXPECT_TRUE(whole == weights(4, 4));
  EXPECT_FALSE(whole == weights(1, 1)) << "the test is blind";
  GqaAssemble op = s.op();
  op.head_leaves = 3;
  EXPECT_THROW(gqa_assemble_backward_weight(stream, op, s.table, s.positions, dq, dk, s.a, o.rstd, zero(), zero()),
               Error);
}

}  // namespace
}  // namespace fourmi
