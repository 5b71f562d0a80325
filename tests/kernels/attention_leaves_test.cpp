// A sequence over ranks: dk and dv as trees over query blocks, whole and cut, against the definition; outputs in the
// accumulator dtype; and a ring, whose chunks of keys are merged.
#include <gtest/gtest.h>

#include "kernels/ops/reduce.h"
#include "kernels/ops/tree_sum.h"
#include "tests/device/stream.h"
#include "tests/kernels/attention_scene.h"

namespace fourmi {
namespace {

using namespace test;

/// Sequences of `leaves` query blocks each.
AttentionScene scene(DType dtype, const Sequences& sequences, std::int64_t leaves, std::int64_t H, std::int64_t G,
                     std::int64_t Q, std::int64_t V) {
  std::int64_t rows = 0;
  for (std::int64_t n : sequences.front()) rows += n;
  AttentionScene s(dtype, sequences, H, G, Q, V, rows / leaves);
  s.attention.query_leaves = leaves;
  return s;
}
std::vector<AttentionScene> scenes(DType dtype) {
  std::vector<AttentionScene> s;
  s.push_back(scene(dtype, {{64}, {20, 44}}, 16, 2, 2, 17, 12));  // blocks of four: several a tile
  s.push_back(scene(dtype, {{30, 66}}, 16, 4, 2, 8, 18));         // of six
  s.push_back(scene(dtype, {{32}}, 16, 2, 1, 5, 3));              // of two
  s.push_back(scene(dtype, {{80}, {1, 9, 70}}, 16, 2, 1, 6, 4));  // of five
  s.push_back(scene(dtype, {{100, 60}}, 8, 1, 1, 5, 20));         // of twenty: three would fit a tile
  s.push_back(scene(dtype, {{100, 44}, {144}}, 2, 2, 1, 4, 6));   // of 72: several tiles a block
  s.push_back(scene(dtype, {{40}}, 1, 2, 2, 4, 4));               // one block
  s.push_back(scene(dtype, {{10, 6}, {16}}, 16, 1, 1, 3, 2));     // of one row
  return s;
}

TEST(AttentionLeaves, FollowTheDefinitionOnEveryInstructionSet) {
  if (on_card()) GTEST_SKIP() << "mode layout stays on the CPU";
  for (DType dtype : float_dtypes())
    for (const AttentionScene& s : scenes(dtype))
      visit_float(dtype, "test", [&]<class X>(std::type_identity<X>) {
        const DefinedAttention<X> defined(s);
        const AttentionResult& e = defined.result();
        for (int threads : {1, 3}) {
          ThreadPool pool(threads);
          for (Isa isa : machine_isas()) {
            const AttentionResult r = run_attention(Stream(pool, isa), s);
            const std::string what = fmt::format("{} {} block {}", name_of(dtype), name_of(isa), s.attention.block);
            EXPECT_TRUE(same_bytes(r.dq, e.dq)) << "dq " << what;
            EXPECT_TRUE(same_bytes(r.dk, e.dk)) << "dk " << what;
            EXPECT_TRUE(same_bytes(r.dv, e.dv)) << "dv " << what;
          }
        }
      });
}

TEST(AttentionLeaves, TheTreeIsNotTheAscendingSum) {
  if (on_card()) GTEST_SKIP() << "mode layout stays on the CPU";
  ThreadPool pool(1);
  AttentionScene s = scenes(DType::f32)[0];
  const AttentionResult leaves = run_attention(Stream(pool), s);
  s.attention.query_leaves = 0;
  const AttentionResult ascending = run_attention(Stream(pool), s);
  EXPECT_TRUE(same_bytes(leaves.o, ascending.o));
  EXPECT_FALSE(same_bytes(leaves.dk, ascending.dk));
  EXPECT_FALSE(same_bytes(leaves.dv, ascending.dv));
}

/// Rows [begin, end) of each of n equal runs of rows.
Buffer of_each_run(const Tensor& x, std::int64_t n, std::int64_t begin, std::int64_t end) {
  Shape shape = x.shape;
  const std::int64_t rows = x.dim(0) / n, count = end - begin;
  shape.dims[0] = n * count;
  Buffer part(x.dtype, shape);
  for (std::int64_t i = 0; i < n; ++i)
    std::memcpy(part->rows(i * count, (i + 1) * count).data, x.rows(i * rows + begin, i * rows + end).data,
                static_cast<std::size_t>(part->bytes() / n));
  return part;
}

TEST(AttentionLeaves, QueryRowsOverRanksAreTheWhole) {
  if (on_card()) GTEST_SKIP() << "mode layout stays on the CPU";
  ThreadPool pool(2);
  for (DType dtype : float_dtypes())
    for (const AttentionScene& s : scenes(dtype)) {
      const Stream stream(pool);
      const DType wide = accumulate_dtype(dtype);
      const AttentionResult whole = run_attention(stream, s);
      const std::int64_t leaves = s.attention.query_leaves, run = leaves * s.attention.block, n = s.M / run;
      for (std::int64_t ranks = 1; ranks <= leaves; ranks *= 2) {
        const Shape k = s.k->shape, v = s.v->shape;
        const Buffer dk_parts(wide, {ranks, k[0], k[1], k[2]}), dv_parts(wide, {ranks, v[0], v[1], v[2]});
        for (std::int64_t r = 0; r < ranks; ++r) {
          const auto mine = [&](const Tensor& x) { return of_each_run(x, n, r * run / ranks, (r + 1) * run / ranks); };
          AttentionScene part = s;
          part.q = mine(s.q), part.begin = mine(s.begin), part.end = mine(s.end), part.d_o = mine(s.d_o);
          part.attention.query_leaves = leaves / ranks;
          AttentionResult got(part, wide);
          run_forward(stream, part, got);
          EXPECT_TRUE(got.o == mine(whole.o) && got.lse == mine(whole.lse));
          attention_backward(stream, part.attention, part.q, s.k, s.v, part.begin, part.end, got.o, got.lse, part.d_o,
                             got.dq, dk_parts->rows(r, r + 1).view(k), dv_parts->rows(r, r + 1).view(v));
          Buffer dq(dtype, part.q->shape);
          convert(stream, got.dq, dq);
          EXPECT_TRUE(dq == mine(whole.dq));
        }
        const Buffer dk(dtype, k), dv(dtype, v);
        tree_sum(stream, dk_parts, dk);
        tree_sum(stream, dv_parts, dv);
        EXPECT_TRUE(dk == whole.dk) << name_of(dtype) << ", " << ranks << " ranks, block " << s.attention.block;
        EXPECT_TRUE(dv == whole.dv) << name_of(dtype) << ", " << ranks << " ranks, block " << s.attention.block;
      }
    }
}

TEST(AttentionLeaves, UnroundedOutputsRoundToTheRoundedOnes) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool), host(pool);
  for (std::int64_t leaves : {0, 16}) {
    if (leaves > 0 && on_card()) continue;  // mode layout stays on the CPU
    AttentionScene s = scene(DType::bf16, {{50, 14}}, 16, 2, 1, 12, 10);
    s.attention.query_leaves = leaves;
    const AttentionResult rounded = run_attention(stream, s), wide = run_attention(stream, s, DType::f32);
    const Buffer o(DType::f32, rounded.o->shape);
    attention_forward(stream, s.attention, s.q, s.k, s.v, s.begin, s.end, o, wide.lse);
    for (const auto& [whole, expected] : {std::pair<const Buffer*, const Buffer*>{&o, &rounded.o},
                                          {&wide.dq, &rounded.dq},
                                          {&wide.dk, &rounded.dk},
                                          {&wide.dv, &rounded.dv}}) {
      const Buffer got(DType::bf16, expected->tensor().shape);
      convert(host, *whole, got);
      EXPECT_TRUE(got == *expected);
    }
    EXPECT_TRUE(wide.lse == rounded.lse);
  }
}

// Each chunk of keys is attended alone; what a row sees of it is cut out of its range.
TEST(AttentionRing, ChunksOfKeysMergeToTheWhole) {
  ThreadPool pool(2);
  const Stream stream = stream_of(pool), host(pool);
  const AttentionScene s(DType::f64, Sequences{{64}, {20, 15, 29}}, 4, 2, 12, 8, 4, 3.0);
  const AttentionResult whole = run_attention(stream, s);
  for (std::int64_t chunks : {2, 4, 8}) {
    const std::int64_t n = s.M / chunks;
    Buffer o(DType::f64, whole.o->shape), lse(DType::f64, whole.lse->shape);
    fill_zero(host, o);
    lse.fill([](std::int64_t) { return -HUGE_VAL; });
    std::vector<Buffer> begin, end;
    for (std::int64_t c = 0; c < chunks; ++c) {
      begin.emplace_back(DType::i32, Shape{s.M}), end.emplace_back(DType::i32, Shape{s.M});
      for (std::int64_t i = 0; i < s.M; ++i) {
        begin[c].set(i, static_cast<double>(std::clamp(s.from(i) - c * n, std::int64_t{0}, n)));
        end[c].set(i, static_cast<double>(std::clamp(s.to(i) - c * n, std::int64_t{0}, n)));
      }
      const Buffer part_o(DType::f64, o->shape), part_lse(DType::f64, lse->shape);
      attention_forward(stream, s.attention, s.q, s.k->rows(c * n, (c + 1) * n), s.v->rows(c * n, (c + 1) * n),
                        begin[c], end[c], part_o, part_lse);
      attention_merge(stream, part_o, part_lse, o, lse);
    }
    const auto expect_close = [&](const Buffer& got, const Buffer& expected, const char* what) {
      for (std::int64_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got.get(i), expected.get(i), 1e-12) << what << " " << i;
    };
    expect_close(o, whole.o, "o");
    expect_close(lse, whole.lse, "lse");
    Buffer dq(DType::f64, s.q->shape), dk(DType::f64, s.k->shape), dv(DType::f64, s.v->shape);
    fill_zero(host, dq);
    for (std::int64_t c = 0; c < chunks; ++c) {
      const Buffer part(DType::f64, s.q->shape);
      attention_backward(stream, s.attention, s.q, s.k->rows(c * n, (c + 1) * n), s.v->rows(c * n, (c + 1) * n),
                         begin[c], end[c], o, lse, s.d_o, part, dk->rows(c * n, (c + 1) * n),
                         dv->rows(c * n, (c + 1) * n));
      add_in_place(host, part, dq);
    }
    expect_close(dq, whole.dq, "dq");
    expect_close(dk, whole.dk, "dk");
    expect_close(dv, whole.dv, "dv");
  }
}

TEST(AttentionRing, APartThatSawNothingChangesNothing) {
  const Buffer o = noisy(DType::f32, {5, 2, 7}, 1), lse = noisy(DType::f32, {5, 2}, 2);
  Buffer nothing(DType::f32, {5, 2, 7}), never(DType::f32, {5, 2});  // nothing holds NaN
  never.fill([](std::int64_t) { return -HUGE_VAL; });
  const auto on_streams = [](const std::function<void(const Stream&)>& body) {
    if (!on_card()) return on_every_stream(body);
    ThreadPool one(1);
    body(stream_of(one));
  };
  on_streams([&](const Stream& s) {
    const Buffer a = o, a_lse = lse, b = nothing, b_lse = never, c = nothing, c_lse = never;
    attention_merge(s, nothing, never, a, a_lse);
    attention_merge(s, o, lse, b, b_lse);
    attention_merge(s, nothing, never, c, c_lse);
    EXPECT_TRUE(a == o && a_lse == lse);
    EXPECT_TRUE(b == o && b_lse == lse);
    EXPECT_TRUE(c == nothing && c_lse == never);
  });
  const Buffer other = noisy(DType::f32, {5, 2, 7}, 3), other_lse = noisy(DType::f32, {5, 2}, 4);
  ThreadPool pool(1);
  Buffer expected = o, expected_lse = lse;
  attention_merge(Stream(pool, Isa::portable), other, other_lse, expected, expected_lse);
  on_streams([&](const Stream& s) {
    const Buffer a = o, a_lse = lse;
    attention_merge(s, other, other_lse, a, a_lse);
    EXPECT_TRUE(a == expected && a_lse == expected_lse);
  });
}

TEST(AttentionLeaves, WhatIsNotWholeRunsIsRefused) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool);
  AttentionScene s = scene(DType::f32, {{32}, {32}}, 16, 1, 1, 4, 4);
  s.attention.query_leaves = 3;
  EXPECT_THROW(run_attention(stream, s), Error);
  s.attention.query_leaves = 64;
  EXPECT_THROW(run_attention(stream, s), Error);
  s.attention.query_leaves = 16;
  s.begin.fill([](std::int64_t i) { return i < 32 ? 0 : 31; });  // the second run looks into the first one's keys
  EXPECT_THROW(run_attention(stream, s), Error);
}

}  // namespace
}  // namespace fourmi
