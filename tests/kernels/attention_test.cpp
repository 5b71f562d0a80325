// Attention against plain mathematics in double, and its gradients against finite differences.
#include "kernels/ops/attention.h"

#include <gtest/gtest.h>

#include "tests/device/stream.h"
#include "tests/kernels/attention_scene.h"

namespace fourmi {
namespace {

using namespace test;

std::vector<AttentionScene> scenes(DType dtype) {
  std::vector<AttentionScene> s;
  s.emplace_back(dtype, Sequences{{40}}, 2, 2, 12, 8, 16);
  s.emplace_back(dtype, Sequences{{32}, {20, 12}, {5, 1, 26}}, 4, 2, 9, 20, 16);
  s.emplace_back(dtype, Sequences{{24, 16}, {40}, {39}}, 3, 1, 16, 5, 8);
  s.emplace_back(dtype, Sequences{{13}, {10, 3}}, 2, 2, 1, 33, 13);
  s.emplace_back(dtype, Sequences{{70}}, 1, 1, 24, 16, 64);
  s.emplace_back(dtype, Sequences{{1}}, 2, 1, 3, 2, 64);
  s.emplace_back(dtype, Sequences{{9}, {9}}, 2, 1, 6, 6, 3);
  return s;
}

TEST(Attention, ForwardAndGradientsFollowTheFormulas) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (const AttentionScene& s : scenes(dtype)) {
      const AttentionResult r = run_attention(stream_of(pool), s);
      const PlainAttention plain(s);
      const std::string what = std::string(name_of(dtype)) + " block " + std::to_string(s.attention.block);
      const double unit = unit_of(dtype);
      expect_near(r.o, plain.o, 8 * unit, "o " + what);
      expect_near(r.lse, plain.lse, 8 * unit_of(accumulate_dtype(dtype)), "lse " + what);
      expect_near(r.dq, plain.dq, 40 * unit, "dq " + what);
      expect_near(r.dk, plain.dk, 40 * unit, "dk " + what);
      expect_near(r.dv, plain.dv, 40 * unit, "dv " + what);
    }
}

TEST(Attention, GradientsAgainstFiniteDifferences) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool);
  const AttentionScene s(DType::f64, Sequences{{12}, {7, 5}}, 2, 1, 5, 3, 4);
  const AttentionResult r = run_attention(stream, s);
  AttentionResult moved(s);
  const auto loss = [&] {
    run_forward(stream, s, moved);
    double sum = 0;
    for (std::int64_t i = 0; i < moved.o.size(); ++i) sum += moved.o.get(i) * s.d_o.get(i);
    return sum;
  };
  const auto check = [&](const Buffer& x, const Buffer& gradient, const char* what) {
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const double at = x.get(i), step = 1e-5;
      x.set(i, at + step);
      const double up = loss();
      x.set(i, at - step);
      const double down = loss();
      x.set(i, at);
      EXPECT_NEAR(gradient.get(i), (up - down) / (2 * step), 1e-9) << what << " " << i;
    }
  };
  check(s.q, r.dq, "dq");
  check(s.k, r.dk, "dk");
  check(s.v, r.dv, "dv");
}

TEST(Attention, RowsThatSeeNothingGiveZeroWhateverTheyHold) {
  ThreadPool pool(1);
  std::vector<Stream> streams;
  if (on_card()) streams.push_back(stream_of(pool));
  for (Isa isa : machine_isas())
    if (!on_card()) streams.emplace_back(pool, isa);
  for (const Stream& stream : streams) {
    AttentionScene s(DType::bf16, Sequences{{20}, {12}}, 2, 1, 6, 4, 4);
    for (std::int64_t i = 20; i < 32; ++i) s.begin.set(i, 20), s.end.set(i, 20);  // the second sequence is padding
    for (std::int64_t i = 20 * 2 * 6; i < s.q.size(); ++i) s.q.set(i, std::nan(""));
    for (std::int64_t i = 20 * 2 * 4; i < s.d_o.size(); ++i) s.d_o.set(i, std::nan(""));
    for (std::int64_t i = 20 * 6; i < s.k.size(); ++i) s.k.set(i, std::nan(""));
    for (std::int64_t i = 20 * 4; i < s.v.size(); ++i) s.v.set(i, std::nan(""));
    const AttentionResult r = run_attention(stream, s);
    const AttentionScene alone(DType::bf16, Sequences{{20}}, 2, 1, 6, 4, 4);
    const AttentionResult expected = run_attention(stream, alone);
    const auto check = [&](const Buffer& all, const Buffer& part) {
      EXPECT_TRUE(same_bytes(all->rows(0, 20), part));
      for (std::int64_t i = part.size(); i < all.size(); ++i) ASSERT_EQ(all.get(i), 0.0);
    };
    check(r.o, expected.o);
    check(r.dq, expected.dq);
    check(r.dk, expected.dk);
    check(r.dv, expected.dv);
    for (std::int64_t i = 40; i < 64; ++i) EXPECT_EQ(r.lse.get(i), -HUGE_VAL);
  }
}

TEST(Attention, OneKeyIsCopied) {  // softmax over one key is 1 exactly
  ThreadPool pool(1);
  const AttentionScene s(DType::f32, Sequences{{1, 1, 1}}, 2, 2, 7, 9, 64, 30.0);
  const AttentionResult r = run_attention(stream_of(pool), s);
  EXPECT_TRUE(same_bytes(r.o, s.v));
  EXPECT_TRUE(same_bytes(r.dv, s.d_o));
}

TEST(Attention, LargeScoresDoNotOverflow) {
  ThreadPool pool(1);
  const AttentionScene s(DType::f32, Sequences{{50}}, 1, 1, 16, 4, 16, 60.0);  // scores up to thousands
  const AttentionResult r = run_attention(stream_of(pool), s);
  for (const Buffer* b : {&r.o, &r.lse, &r.dq, &r.dk, &r.dv})
    for (std::int64_t i = 0; i < b->size(); ++i) ASSERT_TRUE(std::isfinite(b->get(i)));
  for (std::int64_t i = 0; i < r.o.size(); ++i) EXPECT_LE(std::abs(r.o.get(i)), 1.0);
}

TEST(Attention, NoRows) {
  ThreadPool pool(2);
  AttentionScene s(DType::f32, Sequences{{6}}, 2, 1, 4, 4, 4);
  s.q = Buffer(DType::f32, {0, 2, 4}), s.d_o = Buffer(DType::f32, {0, 2, 4});
  s.begin = Buffer(DType::i32, {0}), s.end = Buffer(DType::i32, {0});
  const AttentionResult r = run_attention(stream_of(pool), s);
  for (std::int64_t i = 0; i < r.dk.size(); ++i) EXPECT_EQ(r.dk.get(i), 0.0);
  for (std::int64_t i = 0; i < r.dv.size(); ++i) EXPECT_EQ(r.dv.get(i), 0.0);
}

TEST(Attention, RangesBeyondTheKeysOrDecreasingAreRefused) {
  if (on_card()) GTEST_SKIP() << "the host does not see a card's ranges";
  ThreadPool pool(1);
  AttentionScene s(DType::f32, Sequences{{6}}, 1, 1, 4, 4, 4);
  AttentionResult r(s);
  s.end.set(5, 7);
  EXPECT_THROW(run_forward(Stream(pool), s, r), Error);
  s.end.set(5, 4);
  EXPECT_THROW(run_forward(Stream(pool), s, r), Error);
}

}  // namespace
}  // namespace fourmi
