#include <gtest/gtest.h>

#include <cmath>
#include <complex>

#include "kernels/ops/rotary.h"
#include "kernels/ops/tree_sum.h"
#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using namespace test;

/// M tokens; rows of q and of a are wider than what is used.
struct Scene {
  DType dtype;
  std::int64_t M, H, nope, rope, v;
  RotaryLayout layout = RotaryLayout::interleaved;
  std::int64_t q_column = 3, k_column = 5, B = 3 + H * (nope + rope) + 2, A = 5 + rope + 4, Q = nope + rope;
  Buffer table = make_table(), positions = make_positions();

  MlaAssemble mla() const { return {H, nope, rope, v, q_column, k_column, layout}; }
  Buffer make_table() const {
    Buffer t(accumulate_dtype(dtype), {32, rope / 2, 2});
    rotary_table(rotary_frequencies(rope, 100.0), 1.0, t);
    return t;
  }
  Buffer make_positions() const {
    Buffer p(DType::i32, {M});
    p.fill([](std::int64_t i) { return static_cast<double>((i * 11) % 32); });
    return p;
  }
};

struct Operands {
  Buffer q, k, v;
};

Operands forward(const Stream& stream, const Scene& s, const Buffer& q, const Buffer& kv, const Buffer& a) {
  Operands o{Buffer(s.dtype, {s.M, s.H, s.Q}), Buffer(s.dtype, {s.M, s.H, s.Q}), Buffer(s.dtype, {s.M, s.H, s.v})};
  mla_assemble_forward(stream, s.mla(), s.table, s.positions, q, kv, a, o.q, o.k, o.v);
  return o;
}

/// Rotated element i of `rope` values that start at x[first].
double rotated(const Scene& s, const Buffer& x, std::int64_t first, std::int64_t row, std::int64_t i) {
  const bool pairs = s.layout == RotaryLayout::interleaved;
  const std::int64_t j = pairs ? i / 2 : i % (s.rope / 2);
  const std::int64_t a = first + (pairs ? 2 * j : j), b = pairs ? a + 1 : a + s.rope / 2;
  const double angle = s.positions.get(row) * rotary_frequencies(s.rope, 100.0)[static_cast<std::size_t>(j)];
  const auto z = std::complex<double>(x.get(a), x.get(b)) * std::polar(1.0, angle);
  return (pairs ? i % 2 == 0 : i < s.rope / 2) ? z.real() : z.imag();
}

TEST(MlaAssemble, PutsEachPartWhereAttentionReadsIt) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (RotaryLayout layout : {RotaryLayout::interleaved, RotaryLayout::half_split}) {
      const Scene s{dtype, 5, 3, 7, 6, 4, layout};
      const Buffer q = noisy(dtype, {s.M, s.B}, 1), kv = noisy(dtype, {s.M, s.H, s.nope + s.v}, 2);
      const Buffer a = noisy(dtype, {s.M, s.A}, 3);
      const Operands o = forward(stream_of(pool), s, q, kv, a);
      for (std::int64_t m = 0; m < s.M; ++m)
        for (std::int64_t h = 0; h < s.H; ++h) {
          const std::int64_t row = m * s.H + h, q_in = m * s.B + s.q_column + h * s.Q, kv_in = row * (s.nope + s.v);
          for (std::int64_t i = 0; i < s.nope; ++i) {
            EXPECT_EQ(o.q.get(row * s.Q + i), q.get(q_in + i));
            EXPECT_EQ(o.k.get(row * s.Q + i), kv.get(kv_in + i));
          }
          for (std::int64_t i = 0; i < s.rope; ++i) {
            const double unit = 4 * unit_of(dtype);
            EXPECT_NEAR(o.q.get(row * s.Q + s.nope + i), rotated(s, q, q_in + s.nope, m, i), unit);
            EXPECT_NEAR(o.k.get(row * s.Q + s.nope + i), rotated(s, a, m * s.A + s.k_column, m, i), unit);
          }
          for (std::int64_t i = 0; i < s.v; ++i) EXPECT_EQ(o.v.get(row * s.v + i), kv.get(kv_in + s.nope + i));
        }
    }
}

/// The operation is linear, so backward is its transpose: <forward(x), y> = <x, backward(y)>.
TEST(MlaAssemble, BackwardIsTheTranspose) {
  ThreadPool pool(1);
  for (std::int64_t H : {1, 2, 3, 12, 16})
    for (RotaryLayout layout : {RotaryLayout::interleaved, RotaryLayout::half_split}) {
      const Scene s{DType::f64, 4, H, 5, 8, 3, layout};
      const Buffer q = noisy(DType::f64, {s.M, s.B}, 1), kv = noisy(DType::f64, {s.M, H, s.nope + s.v}, 2);
      const Buffer a = noisy(DType::f64, {s.M, s.A}, 3);
      const Operands o = forward(stream_of(pool), s, q, kv, a);
      const Buffer dq = noisy(DType::f64, {s.M, H, s.Q}, 4), dk = noisy(DType::f64, {s.M, H, s.Q}, 5);
      const Buffer dv = noisy(DType::f64, {s.M, H, s.v}, 6);
      const Buffer gq(DType::f64, {s.M, s.B}), gkv(DType::f64, {s.M, H, s.nope + s.v}), ga(DType::f64, {s.M, s.A});
      mla_assemble_backward(stream_of(pool), s.mla(), s.table, s.positions, dq, dk, dv, gq, gkv, ga);
      double left = 0, right = 0;
      const auto dot = [](const Buffer& x, const Buffer& y) {
        double sum = 0;
        for (std::int64_t i = 0; i < x.size(); ++i) sum += x.get(i) * y.get(i);
        return sum;
      };
      left = dot(o.q, dq) + dot(o.k, dk) + dot(o.v, dv);
      right = dot(kv, gkv);
      for (std::int64_t m = 0; m < s.M; ++m) {
        for (std::int64_t i = 0; i < s.B; ++i) {
          const bool used = i >= s.q_column && i < s.q_column + H * s.Q;
          EXPECT_EQ(is_poison(gq, m * s.B + i), !used);
          if (used) right += q.get(m * s.B + i) * gq.get(m * s.B + i);
        }
        for (std::int64_t i = 0; i < s.A; ++i) {
          const bool used = i >= s.k_column && i < s.k_column + s.rope;
          EXPECT_EQ(is_poison(ga, m * s.A + i), !used);
          if (used) right += a.get(m * s.A + i) * ga.get(m * s.A + i);
        }
      }
      EXPECT_NEAR(left, right, 1e-10 * (1 + std::abs(left))) << H;
    }
}

TEST(MlaAssemble, OneRowMayHoldQueryAndSharedKey) {  // without query LoRA both come from one projection
  ThreadPool pool(1);
  Scene s{DType::bf16, 6, 4, 8, 4, 8};
  s.q_column = 0, s.k_column = s.H * s.Q + 5, s.B = s.A = s.k_column + s.rope;
  const Buffer a = noisy(DType::bf16, {s.M, s.A}, 1), kv = noisy(DType::bf16, {s.M, s.H, s.nope + s.v}, 2);
  const Operands o = forward(stream_of(pool), s, a, kv, a);
  const Buffer ga(DType::bf16, {s.M, s.A}), gkv(DType::bf16, {s.M, s.H, s.nope + s.v});
  mla_assemble_backward(stream_of(pool), s.mla(), s.table, s.positions, o.q, o.k, o.v, ga, gkv, ga);
  EXPECT_TRUE(same_bytes(gkv, kv));
  for (std::int64_t i = 0; i < s.M * s.A; ++i) {
    const std::int64_t c = i % s.A;
    EXPECT_EQ(is_poison(ga, i), c >= s.H * s.Q && c < s.k_column) << c;
  }
}

TEST(MlaAssemble, HeadsAreSummedByATreeOfLeaves) {
  ThreadPool pool(1);
  for (std::int64_t H : {6, 16, 32}) {
    Scene s{DType::f32, 1, H, 0, 2, 1};
    s.positions.set(0, 0);  // angle 0: the rotation is the identity
    const Buffer dq = noisy(DType::f32, {1, H, 2}, 1), dk = noisy(DType::f32, {1, H, 2}, 2, 100.0);
    const Buffer dv = noisy(DType::f32, {1, H, 1}, 3);
    const Buffer gq(DType::f32, {1, s.B}), gkv(DType::f32, {1, H, 1}), ga(DType::f32, {1, s.A});
    mla_assemble_backward(stream_of(pool), s.mla(), s.table, s.positions, dq, dk, dv, gq, gkv, ga);
    const std::int64_t leaves = H == 6 ? 2 : 8;
    std::vector<float> part;
    for (std::int64_t c = 0; c < leaves; ++c) {
      auto sum = static_cast<float>(dk.get(c * (H / leaves) * 2));
      for (std::int64_t h = c * (H / leaves) + 1; h < (c + 1) * (H / leaves); ++h)
        sum += static_cast<float>(dk.get(2 * h));
      part.push_back(sum);
    }
    for (; part.size() > 1;) {
      std::vector<float> next;
      for (std::size_t i = 0; i < part.size(); i += 2) next.push_back(part[i] + part[i + 1]);
      part = next;
    }
    EXPECT_EQ(ga.get(s.k_column), part[0]);
  }
}

TEST(MlaAssemble, HalvesAloneAreTheWhole) {
  ThreadPool pool(2);
  for (DType dtype : float_dtypes()) {
    const Scene s{dtype, 9, 3, 4, 6, 5};
    const Buffer q = noisy(dtype, {s.M, s.B}, 1), kv = noisy(dtype, {s.M, s.H, s.nope + s.v}, 2);
    const Buffer a = noisy(dtype, {s.M, s.A}, 3);
    const Operands both = forward(stream_of(pool), s, q, kv, a);
    const Operands o{Buffer(dtype, {s.M, s.H, s.Q}), Buffer(dtype, {s.M, s.H, s.Q}), Buffer(dtype, {s.M, s.H, s.v})};
    mla_assemble_forward(stream_of(pool), s.mla(), s.table, s.positions, q, {}, {}, o.q, {}, {});
    mla_assemble_forward(stream_of(pool), s.mla(), s.table, s.positions, {}, kv, a, {}, o.k, o.v);
    EXPECT_TRUE(same_bytes(o.q, both.q));
    EXPECT_TRUE(same_bytes(o.k, both.k));
    EXPECT_TRUE(same_bytes(o.v, both.v));
  }
}

/// Heads [begin, end) of each row.
Buffer heads(const Buffer& x, std::int64_t begin, std::int64_t end) {
  const std::int64_t M = x->dim(0), H = x->dim(1), n = x->dim(2);
  Buffer part(x->dtype, {M, end - begin, n});
  for (std::int64_t m = 0; m < M; ++m)
    std::memcpy(part->rows(m, m + 1).data, x->view({M * H, n}).rows(m * H + begin, m * H + end).data,
                static_cast<std::size_t>(part->bytes() / M));
  return part;
}

TEST(MlaAssemble, HeadsOverRanksAreTheWhole) {
  for (DType dtype : float_dtypes())
    for (std::int64_t H : {6, 8, 24})
      for (RotaryLayout layout : {RotaryLayout::interleaved, RotaryLayout::half_split}) {
        const Scene s{dtype, 5, H, 3, 6, 4, layout};
        const std::int64_t leaves = H == 6 ? 2 : 8;
        const Buffer dq = noisy(dtype, {s.M, H, s.Q}, 1), dk = noisy(dtype, {s.M, H, s.Q}, 2, 10.0);
        const Buffer dv = noisy(dtype, {s.M, H, s.v}, 3);
        Buffer gq(dtype, {s.M, s.B}), gkv(dtype, {s.M, H, s.nope + s.v}), ga(dtype, {s.M, s.A});
        ThreadPool pool(2);
        mla_assemble_backward(stream_of(pool), s.mla(), s.table, s.positions, dq, dk, dv, gq, gkv, ga);
        const auto body = [&](const Stream& stream, const Stream& sums) {
          for (std::int64_t ranks = 1; ranks <= leaves; ranks *= 2) {
            const std::int64_t n = H / ranks;
            const Buffer parts(accumulate_dtype(dtype), {ranks, s.M, s.rope}), sum(parts->dtype, {s.M, s.rope});
            for (std::int64_t r = 0; r < ranks; ++r) {
              MlaAssemble mla = s.mla();
              mla.num_heads = n, mla.head_leaves = leaves / ranks;
              const Buffer part_q(dtype, {s.M, s.B}), part_kv(dtype, {s.M, n, s.nope + s.v});
              const auto mine = [&](const Buffer& x) { return heads(x, r * n, (r + 1) * n); };
              mla_assemble_backward(stream, mla, s.table, s.positions, mine(dq), mine(dk), mine(dv), part_q, part_kv,
                                    {}, parts->rows(r, r + 1).view({s.M, s.rope}));
              EXPECT_TRUE(part_kv == mine(gkv));
            }
            const Buffer a(dtype, {s.M, s.A});
            tree_sum(sums, parts, sum);
            mla_rotary_key_backward(stream, s.mla(), s.table, s.positions, sum, a);
            EXPECT_TRUE(a == ga) << name_of(dtype) << " " << H << " heads, " << ranks << " ranks";  // poison too
          }
        };
        if (on_card())
          body(stream_of(pool), Stream(pool));
        else
          on_every_stream([&](const Stream& stream) { body(stream, stream); });
        MlaAssemble wrong = s.mla();
        wrong.head_leaves = H == 6 ? 4 : 3;
        EXPECT_THROW(mla_assemble_backward(stream_of(pool), wrong, s.table, s.positions, dq, dk, dv, gq, gkv, ga),
                     Error);
      }
}

/// On a card too the bits are the CPU's: heads are summed by the same tree. Vectors and single elements, heads by the
/// thousand of columns, no columns of a kind.
TEST(MlaAssemble, DevicesGiveEqualBits) {
  ThreadPool pool(1);
  struct Sizes {
    std::int64_t M, H, nope, rope, v, q_column, k_column;
  };
  for (DType dtype : float_dtypes())
    for (const Sizes& k : {Sizes{3, 16, 128, 64, 128, 0, 8}, Sizes{2, 128, 128, 64, 128, 8, 0},
                           Sizes{5, 5, 16, 16, 8, 16, 16}, Sizes{2, 7, 16, 32, 24, 1, 8}, Sizes{1, 2, 5, 2, 3, 8, 8},
                           Sizes{3, 4, 0, 16, 8, 0, 0}, Sizes{4, 24, 8, 600, 0, 0, 0}, Sizes{0, 4, 8, 8, 8, 0, 0}})
      for (RotaryLayout layout : {RotaryLayout::interleaved, RotaryLayout::half_split}) {
        SCOPED_TRACE(::testing::Message() << name_of(dtype) << " " << k.H << " heads, rope " << k.rope);
        Scene s{dtype, k.M, k.H, k.nope, k.rope, k.v, layout};
        s.q_column = k.q_column, s.k_column = k.k_column;
        s.B = k.q_column + k.H * s.Q + 8, s.A = k.k_column + k.rope + 8;
        const Buffer q = noisy(dtype, {s.M, s.B}, 1), kv = noisy(dtype, {s.M, s.H, s.nope + s.v}, 2);
        const Buffer a = noisy(dtype, {s.M, s.A}, 3);
        const Buffer dq = noisy(dtype, {s.M, s.H, s.Q}, 4), dk = noisy(dtype, {s.M, s.H, s.Q}, 5, 10.0);
        const Buffer dv = noisy(dtype, {s.M, s.H, s.v}, 6);
        const auto run = [&](const Stream& stream) {
          const Operands o = forward(stream, s, q, kv, a);
          std::vector<Buffer> all{o.q, o.k, o.v};
          for (const Shape& shape : {Shape{s.M, s.B}, Shape{s.M, s.H, s.nope + s.v}, Shape{s.M, s.A}})
            all.emplace_back(dtype, shape);
          mla_assemble_backward(stream, s.mla(), s.table, s.positions, dq, dk, dv, all[3], all[4], all[5]);
          return all;
        };
        const auto expected = run(Stream(pool)), got = run(stream_of(pool));
        for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(got[i] == expected[i]) << i;
      }
}

/// Values of all magnitudes, through a rotation by angle 0: what is stored is each of them, rounded as the CPU rounds.
TEST(MlaAssemble, KeyGradientsAreRoundedOnce) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    const Scene s{dtype, 700, 1, 0, 16, 1};
    s.positions.fill([](std::int64_t) { return 0.0; });
    const DType acc = accumulate_dtype(dtype);
    const Buffer sum(acc, {s.M, s.rope});
    const int lowest = acc == DType::f64 ? -1080 : -152, highest = acc == DType::f64 ? 1023 : 127;
    sum.fill([&](std::int64_t i) {
      // Halves of bf16's last place, up to what becomes infinity, and others.
      const double magnitude =
          i % 3 == 0 ? 1 + static_cast<double>(2 * (i % 128) + 1) * 0x1p-8 : 1 + std::abs(noise(i, 1));
      const int exponent = lowest + static_cast<int>(i % (highest - lowest + 1));
      return std::ldexp(i % 2 == 0 ? magnitude : -magnitude, exponent);
    });
    for (RotaryLayout layout : {RotaryLayout::interleaved, RotaryLayout::half_split}) {
      MlaAssemble mla = s.mla();
      mla.layout = layout;
      const auto run = [&](const Stream& stream, std::int64_t column) {
        mla.k_column = column;
        Buffer a(dtype, {s.M, 32});
        mla_rotary_key_backward(stream, mla, s.table, s.positions, sum, a);
        return a;
      };
      for (std::int64_t column : {0, 3, 8}) EXPECT_TRUE(run(Stream(pool), column) == run(stream_of(pool), column));
    }
  }
}

TEST(MlaAssemble, InstructionSetsAndThreadsGiveEqualBits) {
  if (on_card()) GTEST_SKIP() << "a card has neither";
  for (DType dtype : float_dtypes()) {
    const Scene s{dtype, 150, 4, 32, 16, 32};
    const Buffer q = noisy(dtype, {s.M, s.B}, 1), kv = noisy(dtype, {s.M, s.H, s.nope + s.v}, 2);
    const Buffer a = noisy(dtype, {s.M, s.A}, 3);
    ThreadPool one(1);
    const Operands expected = forward(Stream(one, Isa::portable), s, q, kv, a);
    Buffer gq0(dtype, {s.M, s.B}), gkv0(dtype, {s.M, s.H, s.nope + s.v}), ga0(dtype, {s.M, s.A});
    mla_assemble_backward(Stream(one, Isa::portable), s.mla(), s.table, s.positions, expected.q, expected.k, expected.v,
                          gq0, gkv0, ga0);
    for (Isa isa : machine_isas())
      for (int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        const Operands got = forward(Stream(pool, isa), s, q, kv, a);
        EXPECT_TRUE(same_bytes(expected.q, got.q) && same_bytes(expected.k, got.k) && same_bytes(expected.v, got.v));
        Buffer gq(dtype, {s.M, s.B}), gkv(dtype, {s.M, s.H, s.nope + s.v}), ga(dtype, {s.M, s.A});
        mla_assemble_backward(Stream(pool, isa), s.mla(), s.table, s.positions, got.q, got.k, got.v, gq, gkv, ga);
        EXPECT_TRUE(same_bytes(gq0, gq) && same_bytes(gkv0, gkv) && same_bytes(ga0, ga)) << name_of(isa) << threads;
      }
  }
}

}  // namespace
}  // namespace fourmi
