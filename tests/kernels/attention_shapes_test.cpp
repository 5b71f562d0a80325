// Attention against plain mathematics in double where rows, heads and head sizes are more than one tile of a card, and
// what must not matter there: other documents of a tile, alignment, the order in which threads run.
#include <gtest/gtest.h>

#include "tests/device/stream.h"
#include "tests/kernels/attention_scene.h"

namespace fourmi {
namespace {

using namespace test;

void expect_plain(const AttentionScene& s, const AttentionResult& r, const std::string& what) {
  const PlainAttention plain(s);
  const double unit = unit_of(s.dtype);
  expect_near(r.o, plain.o, 16 * unit, "o " + what);
  expect_near(r.lse, plain.lse, 16 * unit_of(accumulate_dtype(s.dtype)), "lse " + what);
  expect_near(r.dq, plain.dq, 80 * unit, "dq " + what);
  expect_near(r.dk, plain.dk, 80 * unit, "dk " + what);
  expect_near(r.dv, plain.dv, 80 * unit, "dv " + what);
}

std::string name_of_scene(const AttentionScene& s) {
  return fmt::format("{}: {} rows, {} keys, {} heads of {}, {} and {} wide", name_of(s.dtype), s.M, s.k->dim(0), s.H,
                     s.G, s.Q, s.V);
}

TEST(AttentionShapes, AnyShapeFollowsTheFormulas) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    std::vector<AttentionScene> scenes;
    scenes.emplace_back(dtype, Sequences{{100, 3, 60}, {70}}, 6, 2, 72, 40, 16);
    scenes.emplace_back(dtype, Sequences{{130}, {1, 1, 128}}, 2, 1, 192, 128, 64);
    scenes.emplace_back(dtype, Sequences{{64, 64}, {128}}, 4, 4, 64, 64, 64);
    scenes.emplace_back(dtype, Sequences{{65}, {63}}, 3, 3, 31, 130, 32);
    scenes.emplace_back(dtype, Sequences{{70, 20}}, 2, 1, 256, 256, 32);
    scenes.emplace_back(dtype, Sequences{{30, 50}}, 2, 1, 300, 290, 16);
    scenes.emplace_back(dtype, Sequences{{40}}, 2, 1, 576, 33, 8);
    scenes.emplace_back(dtype, Sequences{{260}}, 1, 1, 1, 1, 64);
    for (const AttentionScene& s : scenes) expect_plain(s, run_attention(stream_of(pool), s), name_of_scene(s));
  }
}

TEST(AttentionShapes, WindowsAndRowsWithoutKeys) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (std::int64_t window : {1, 50, 140}) {
      AttentionScene s(dtype, Sequences{{290}}, 2, 1, 20, 36, 32);
      for (std::int64_t i = 0; i < s.M; ++i)
        s.begin.set(i, static_cast<double>(std::max<std::int64_t>(i < 190 ? 0 : 100, i + 1 - window)));
      for (std::int64_t i = 100; i < 190; ++i)  // more than a tile of them
        s.begin.set(i, 100), s.end.set(i, 100);
      for (std::int64_t i = 280; i < s.M; ++i) s.begin.set(i, 280), s.end.set(i, 280);
      expect_plain(s, run_attention(stream_of(pool), s), fmt::format("{} window {}", name_of(dtype), window));
    }
}

TEST(AttentionShapes, FewRowsOverManyKeys) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    AttentionScene s(dtype, Sequences{{4}}, 4, 2, 24, 20, 64);
    const std::int64_t n = 1500;
    s.k = noisy(dtype, {n, 2, 24}, 5), s.v = noisy(dtype, {n, 2, 20}, 6);
    const std::int64_t ranges[4][2] = {{0, 1}, {0, n - 5}, {100, n - 1}, {n - 2, n}};
    for (std::int64_t i = 0; i < 4; ++i)
      s.begin.set(i, static_cast<double>(ranges[i][0])), s.end.set(i, static_cast<double>(ranges[i][1]));
    expect_plain(s, run_attention(stream_of(pool), s), name_of_scene(s));
  }
}

TEST(AttentionShapes, ManyRowsOverFewKeys) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    AttentionScene s(dtype, Sequences{{500}}, 4, 2, 24, 20, 64);
    const std::int64_t n = 70;
    s.k = noisy(dtype, {n, 2, 24}, 5), s.v = noisy(dtype, {n, 2, 20}, 6);
    for (std::int64_t i = 0; i < s.M; ++i) s.begin.set(i, static_cast<double>(i / 10)), s.end.set(i, i < 300 ? 66 : n);
    expect_plain(s, run_attention(stream_of(pool), s), name_of_scene(s));
  }
}

TEST(AttentionShapes, NoKeys) {
  ThreadPool pool(1);
  AttentionScene s(DType::f32, Sequences{{70}}, 2, 1, 8, 4, 64);
  s.k = Buffer(DType::f32, {0, 1, 8}), s.v = Buffer(DType::f32, {0, 1, 4});
  for (std::int64_t i = 0; i < s.M; ++i) s.begin.set(i, 0), s.end.set(i, 0);
  const AttentionResult r = run_attention(stream_of(pool), s);
  for (std::int64_t i = 0; i < r.o.size(); ++i) ASSERT_EQ(r.o.get(i), 0.0);
  for (std::int64_t i = 0; i < r.dq.size(); ++i) ASSERT_EQ(r.dq.get(i), 0.0);
  for (std::int64_t i = 0; i < r.lse.size(); ++i) ASSERT_EQ(r.lse.get(i), -HUGE_VAL);
}

TEST(AttentionShapes, TheSameCallGivesTheSameBits) {
  ThreadPool pool(2);
  for (DType dtype : float_dtypes()) {
    const AttentionScene s(dtype, Sequences{{90, 50}}, 4, 2, 40, 72, 64);
    const AttentionResult first = run_attention(stream_of(pool), s);
    EXPECT_TRUE(same_result(first, run_attention(stream_of(pool), s))) << name_of(dtype);
  }
}

// Three documents in one tile of rows; what the one in the middle holds is not a number.
TEST(AttentionShapes, OtherDocumentsDoNotReachARow) {
  ThreadPool pool(1);
  for (DType dtype : {DType::f64, DType::f32}) {
    const AttentionScene clean(dtype, Sequences{{20, 12, 50}}, 2, 1, 6, 4, 64);
    AttentionScene s = clean;
    const auto spoil = [](const Buffer& x) {
      const std::int64_t row = x.size() / x->dim(0);
      for (std::int64_t i = 20 * row; i < 32 * row; ++i) x.set(i, std::nan(""));
    };
    spoil(s.q), spoil(s.k), spoil(s.v), spoil(s.d_o);
    const AttentionResult got = run_attention(stream_of(pool), s), expected = run_attention(stream_of(pool), clean);
    const auto same = [&](const Buffer& a, const Buffer& b) {
      return same_bytes(a->rows(0, 20), b->rows(0, 20)) && same_bytes(a->rows(32, 82), b->rows(32, 82));
    };
    EXPECT_TRUE(same(got.o, expected.o) && same(got.lse, expected.lse) && same(got.dq, expected.dq));
    if (!on_card()) continue;  // the CPU adds zero times a row of the query block to dk and dv
    EXPECT_TRUE(same(got.dk, expected.dk) && same(got.dv, expected.dv));
  }
}

/// All operands in one piece of memory, behind a tensor of 280 bytes: at no multiple of 16, on the host and on a card.
TEST(AttentionShapes, AlignmentChangesNothing) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    const AttentionScene s(dtype, Sequences{{70}}, 2, 1, 16, 24, 64);
    const AttentionResult expected = run_attention(stream_of(pool), s);
    const Buffer memory(DType::u8,
                        {s.begin->bytes() + s.q->bytes() + s.k->bytes() + s.v->bytes() + 2 * s.d_o->bytes()});
    std::int64_t used = 0;
    const auto next = [&](const Tensor& x) {
      Tensor t = x;
      t.data = static_cast<std::byte*>(memory->data) + used;
      std::memcpy(t.data, x.data, static_cast<std::size_t>(x.bytes()));
      used += x.bytes();
      return t;
    };
    const Tensor begin = next(s.begin), q = next(s.q), k = next(s.k), v = next(s.v), d_o = next(s.d_o);
    const Tensor o = next(expected.o);
    AttentionResult r(s);
    attention_forward(stream_of(pool), s.attention, q, k, v, begin, s.end, o, r.lse);
    std::memcpy(r.o->data, o.data, static_cast<std::size_t>(o.bytes()));
    attention_backward(stream_of(pool), s.attention, q, k, v, begin, s.end, o, r.lse, d_o, r.dq, r.dk, r.dv);
    EXPECT_TRUE(same_result(r, expected)) << name_of(dtype);
  }
}

TEST(AttentionShapes, MergedRowsAreTheFormulasWhateverTheirSize) {
  ThreadPool pool(1);
  for (DType dtype : {DType::f64, DType::f32})
    for (std::int64_t V : {1, 3, 32, 130}) {
      const Shape shape{70, 3, V}, rows{70, 3};
      const Buffer o = noisy(dtype, shape, 1), lse = noisy(dtype, rows, 2, 9.0), other = noisy(dtype, shape, 3),
                   other_lse = noisy(dtype, rows, 4, 9.0);
      const Buffer expected_o = o, expected_lse = lse, got_o = o, got_lse = lse;
      attention_merge(Stream(pool, Isa::portable), other, other_lse, expected_o, expected_lse);
      attention_merge(stream_of(pool), other, other_lse, got_o, got_lse);
      EXPECT_TRUE(got_o == expected_o && got_lse == expected_lse) << name_of(dtype) << " " << V;
      for (std::int64_t i = 0; i < o.size(); ++i) {
        const double a = std::exp(lse.get(i / V)), b = std::exp(other_lse.get(i / V));
        ASSERT_NEAR(got_o.get(i), (a * o.get(i) + b * other.get(i)) / (a + b), 8 * unit_of(dtype));
      }
    }
  const Buffer none(DType::f32, {0, 3, 4}), no_lse(DType::f32, {0, 3});
  attention_merge(stream_of(pool), none, no_lse, none, no_lse);
}

}  // namespace
}  // namespace fourmi
