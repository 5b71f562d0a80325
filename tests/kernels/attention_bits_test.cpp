// Bits: attention follows its definition scalar by scalar, on every instruction set, with any number of threads, and a
// row does not know with whom it shares a call.
#include <gtest/gtest.h>

#include "tests/device/stream.h"
#include "tests/kernels/attention_scene.h"

namespace fourmi {
namespace {

using namespace test;

std::vector<AttentionScene> scenes(DType dtype) {
  std::vector<AttentionScene> s;
  s.emplace_back(dtype, Sequences{{48}, {20, 28}}, 2, 2, 17, 12, 16);
  s.emplace_back(dtype, Sequences{{40}, {3, 30, 7}, {29}}, 4, 2, 8, 18, 8);
  s.emplace_back(dtype, Sequences{{41, 29}}, 2, 1, 20, 32, 64, 8.0);
  s.emplace_back(dtype, Sequences{{20}, {15, 4}}, 2, 1, 5, 3, 5);
  s.emplace_back(dtype, Sequences{{40}, {40}}, 1, 1, 6, 4, 20);
  s.emplace_back(dtype, Sequences{{5}, {5}}, 3, 3, 6, 4, 1);
  s.emplace_back(dtype, Sequences{{100, 80}, {12}}, 2, 2, 34, 18, 64);  // several wide tiles, one head a group
  s.emplace_back(dtype, Sequences{{150}}, 2, 1, 4, 6, 96);              // a block of several tiles
  s.emplace_back(dtype, Sequences{{140, 3}}, 1, 1, 7, 5, 67, 4.0);      // the same, odd
  s.emplace_back(dtype, Sequences{{72}, {72}}, 1, 1, 5, 40, 24);        // tiles of two blocks
  return s;
}

TEST(AttentionBits, FollowTheDefinitionOnEveryInstructionSet) {
  if (on_card()) GTEST_SKIP() << "a card has an order of sums of its own";
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (const AttentionScene& s : scenes(dtype))
      visit_float(dtype, "test", [&]<class X>(std::type_identity<X>) {
        const DefinedAttention<X> defined(s);
        const AttentionResult& e = defined.result();
        for (Isa isa : machine_isas()) {
          const AttentionResult r = run_attention(Stream(pool, isa), s);
          const std::string what = fmt::format("{} {} block {}", name_of(dtype), name_of(isa), s.attention.block);
          EXPECT_TRUE(same_bytes(r.o, e.o)) << "o " << what;
          EXPECT_TRUE(same_bytes(r.lse, e.lse)) << "lse " << what;
          EXPECT_TRUE(same_bytes(r.dq, e.dq)) << "dq " << what;
          EXPECT_TRUE(same_bytes(r.dk, e.dk)) << "dk " << what;
          EXPECT_TRUE(same_bytes(r.dv, e.dv)) << "dv " << what;
        }
      });
}

TEST(AttentionBits, ThreadsChangeNothing) {
  if (on_card()) GTEST_SKIP() << "threads of the CPU";
  for (DType dtype : {DType::f32, DType::bf16}) {
    const AttentionScene s(dtype, Sequences{{128}, {100, 28}, {60}}, 4, 2, 48, 32, 64);
    ThreadPool one(1);
    const AttentionResult expected = run_attention(Stream(one, Isa::portable), s);
    for (Isa isa : machine_isas())
      for (int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        EXPECT_TRUE(same_result(expected, run_attention(Stream(pool, isa), s))) << name_of(isa) << " " << threads;
      }
  }
}

// The following two hold on a card as well: its tiles of 64 rows and keys begin at multiples of 64, as the sequences
// do.

TEST(AttentionBits, SequencesMayShareACallOrNot) {
  ThreadPool pool(1);
  for (std::int64_t block : {8, 16, 32})
    for (DType dtype : float_dtypes()) {
      const AttentionScene both(dtype, Sequences{{64}, {20, 35}}, 2, 1, 12, 20, block);
      const AttentionResult r = run_attention(stream_of(pool), both);
      for (const auto& [first, last] : {std::pair<std::int64_t, std::int64_t>{0, 64}, {64, 119}}) {
        AttentionScene part(dtype, first == 0 ? Sequences{{64}} : Sequences{{20, 35}}, 2, 1, 12, 20, block);
        const auto take = [&](const Buffer& from, const Buffer& into) {
          const Tensor rows = from->rows(first, last);
          std::memcpy(into->data, rows.data, static_cast<std::size_t>(rows.bytes()));
        };
        take(both.q, part.q), take(both.k, part.k), take(both.v, part.v), take(both.d_o, part.d_o);
        const AttentionResult alone = run_attention(stream_of(pool), part);
        EXPECT_TRUE(same_bytes(r.o->rows(first, last), alone.o));
        EXPECT_TRUE(same_bytes(r.lse->rows(first, last), alone.lse));
        EXPECT_TRUE(same_bytes(r.dq->rows(first, last), alone.dq));
        EXPECT_TRUE(same_bytes(r.dk->rows(first, last), alone.dk));
        EXPECT_TRUE(same_bytes(r.dv->rows(first, last), alone.dv));
      }
    }
}

TEST(AttentionBits, OneQueryOverCachedKeysIsTheFullCallsRow) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (std::int64_t block : {8, 64}) {
      const std::int64_t n = 90;
      const AttentionScene s(dtype, Sequences{{n}}, 4, 2, 24, 16, block);
      AttentionResult full(s);
      run_forward(stream_of(pool), s, full);
      for (std::int64_t i : {std::int64_t{0}, std::int64_t{1}, std::int64_t{15}, std::int64_t{64}, n - 1}) {
        const Buffer begin(DType::i32, {1}), end(DType::i32, {1});
        begin.set(0, 0), end.set(0, static_cast<double>(i + 1));
        const Buffer o(dtype, {1, 4, 16}), lse(accumulate_dtype(dtype), {1, 4});
        attention_forward(stream_of(pool), s.attention, s.q->rows(i, i + 1), s.k->rows(0, i + 1), s.v->rows(0, i + 1),
                          begin, end, o, lse);
        EXPECT_TRUE(same_bytes(o, full.o->rows(i, i + 1))) << i;
        EXPECT_TRUE(same_bytes(lse, full.lse->rows(i, i + 1))) << i;
      }
    }
}

}  // namespace
}  // namespace fourmi
