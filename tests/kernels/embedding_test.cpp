#include "kernels/ops/embedding.h"

#include <cmath>
#include <limits>

#include "kernels/ops/tree_sum.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using test::Buffer;
using test::on_every_stream;

constexpr DType floats[] = {DType::f64, DType::f32, DType::bf16};
const std::vector<double> tokens = {3, 0, 3, 6, 3, 0, 2};  // a token three times, some never
constexpr std::int64_t M = 7, V = 7;

TEST(Embedding, ForwardTakesRows) {
  for (std::int64_t D : {1, 16, 37})
    for (DType from : floats)
      for (DType to : floats) {
        Buffer ids(DType::i32, {M}, tokens), table = test::noisy(from, {V, D}, 1);
        on_every_stream([&](const Stream& s) {
          Buffer x(to, {M, D}), expected(to, {M, D});
          embedding_forward(s, ids, table, x);
          for (std::int64_t i = 0; i < M * D; ++i) expected.set(i, table.get(ids.id(i / D) * D + i % D));
          EXPECT_TRUE(x == expected);
        });
      }
  ThreadPool pool(1);
  Buffer none(DType::i32, {0}), table = test::noisy(DType::f32, {V, 4}, 1), x(DType::f32, {0, 4});
  embedding_forward(Stream(pool), none, table, x);
}

TEST(Embedding, TokenOutsideIsAnErrorThatNamesIt) {
  ThreadPool pool(2);
  const Stream stream(pool);
  Buffer table = test::noisy(DType::f32, {V, 4}, 1), x(DType::f32, {2, 4});
  for (double bad : {7.0, -1.0, 1e9}) {
    try {
      embedding_forward(stream, Buffer(DType::i32, {2}, {1, bad}), table, x);
      FAIL() << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::input);
      EXPECT_NE(std::string(e.what()).find(fmt::format("token {} at position 1, a vocabulary of 7", bad)),
                std::string::npos)
          << e.what();
    }
  }
  Buffer dtable = test::noisy(DType::f32, {V, 4}, 2), before = dtable;
  EXPECT_THROW(embedding_backward(stream, Buffer(DType::i32, {2}, {1, 7}), x, dtable), Error);
  EXPECT_TRUE(dtable == before);
}

TEST(Embedding, BackwardAddsInOrder) {
  for (std::int64_t D : {1, 16, 131})
    for (DType dtype : floats) {
      const DType sums = accumulate_dtype(dtype);
      auto with_gaps = tokens;
      with_gaps[4] = -1;
      Buffer ids(DType::i32, {M}, with_gaps), dx = test::noisy(dtype, {M, D}, 2), start = test::noisy(sums, {V, D}, 3);
      Buffer expected = start;
      for (std::int64_t i = 0; i < M; ++i)
        for (std::int64_t d = 0; d < D && ids.id(i) >= 0; ++d) {
          const std::int64_t place = ids.id(i) * D + d;
          expected.set(place, sums == DType::f64 ? expected.get(place) + dx.get(i * D + d)
                                                 : double(float(expected.get(place)) + float(dx.get(i * D + d))));
        }
      on_every_stream([&](const Stream& s) {
        Buffer dtable = start;
        embedding_backward(s, ids, dx, dtable);
        EXPECT_TRUE(dtable == expected);
      });
    }
}

// sum_d,i g[i,d] * table[tokens[i],d] has the table's gradient sum_i g[i,d].
TEST(Embedding, BackwardIsTheAdjointOfForward) {
  ThreadPool pool(1);
  const Stream stream(pool);
  constexpr std::int64_t D = 5;
  Buffer ids(DType::i32, {M}, tokens), table = test::noisy(DType::f64, {V, D}, 4),
                                       g = test::noisy(DType::f64, {M, D}, 5), x(DType::f64, {M, D});
  Buffer dtable(DType::f64, {V, D}, std::vector<double>(V * D, 0.0));
  embedding_backward(stream, ids, g, dtable);
  const auto loss = [&] {
    embedding_forward(stream, ids, table, x);
    double sum = 0;
    for (std::int64_t i = 0; i < M * D; ++i) sum += g.get(i) * x.get(i);
    return sum;
  };
  for (std::int64_t i = 0; i < V * D; ++i) EXPECT_NEAR(dtable.get(i), test::difference(table, i, loss), 1e-9);
}

TEST(Embedding, RowsOverRanksAreTheWhole) {
  constexpr std::int64_t rows = 8, D = 19;  // one more than there are tokens: padding
  for (DType dtype : floats) {
    const DType wide = accumulate_dtype(dtype);
    const Buffer ids(DType::i32, {M}, tokens), table = test::noisy(dtype, {rows, D}, 7),
                                               dx = test::noisy(dtype, {M, D}, 8);
    for (std::int64_t v = 0; v < rows; ++v) table.set(v * D, -0.0), table.set(v * D + 1, 0.0);
    const Buffer start = test::noisy(wide, {rows, D}, 9);
    on_every_stream([&](const Stream& s) {
      const Buffer whole(dtype, {M, D}), dwhole = start;
      embedding_forward(s, ids, table, whole, {.size = V});
      embedding_backward(s, ids, dx, dwhole, {}, {.size = V});
      for (std::int64_t ranks : {2, 4, 8}) {
        const std::int64_t n = rows / ranks;
        const Buffer parts(wide, {ranks, M, D}), x(dtype, {M, D}), dtable = start;
        for (std::int64_t r = 0; r < ranks; ++r) {
          const VocabularyRange range{.first = r * n, .size = V};
          embedding_forward(s, ids, table->rows(r * n, (r + 1) * n), parts->rows(r, r + 1).view({M, D}), range);
          embedding_backward(s, ids, dx, dtable->rows(r * n, (r + 1) * n), {}, range);
        }
        tree_sum(s, parts, x);
        EXPECT_TRUE(x == whole) << ranks;
        EXPECT_TRUE(dtable == dwhole) << ranks;
      }
    });
    ThreadPool pool(1);
    const Buffer x(dtype, {1, D});
    EXPECT_THROW(embedding_forward(Stream(pool), Buffer(DType::i32, {1}, {7}), table, x, {.size = V}), Error);
    EXPECT_THROW(embedding_forward(Stream(pool), Buffer(DType::i32, {1}, {1}), table, x, {.first = 4}), Error);
  }
}

TEST(Embedding, ExactSumsNeedNoOrder) {
  constexpr std::int64_t D = 33;
  for (DType dtype : {DType::f32, DType::bf16}) {
    Buffer ids(DType::i32, {M}, tokens), dx = test::noisy(dtype, {M, D}, 6),
                                         zero(DType::fx128, {V, D}, std::vector<double>(V * D, 0));
    Buffer reversed_ids = ids, reversed_dx = dx, expected = zero;
    for (std::int64_t i = 0; i < M; ++i) {
      reversed_ids.set(i, ids.id(M - 1 - i));
      for (std::int64_t d = 0; d < D; ++d) {
        reversed_dx.set(i * D + d, dx.get((M - 1 - i) * D + d));
        const std::int64_t place = ids.id(i) * D + d;
        expected.at<int128>(place) += to_fixed128(dx.get(i * D + d));
      }
    }
    std::int32_t refused = 0;
    on_every_stream([&](const Stream& s) {
      Buffer a = zero, b = zero, c = zero;
      embedding_backward(s, ids, dx, a, {.refused = &refused});
      embedding_backward(s, reversed_ids, reversed_dx, b, {.refused = &refused});
      for (std::int64_t i = 0; i < M; ++i)  // one position a call
        embedding_backward(s, ids.tensor().rows(i, i + 1), dx.tensor().rows(i, i + 1), c, {.refused = &refused});
      EXPECT_TRUE(a == expected);
      EXPECT_TRUE(b == expected);
      EXPECT_TRUE(c == expected);
    });
    EXPECT_EQ(refused, 0);
  }
}

TEST(Embedding, ExactSumsRefuseWhatDoesNotFit) {
  ThreadPool pool(2);
  const Stream stream(pool);
  for (double bad : {0x1p40, -0x1p41, std::nan(""), std::numeric_limits<double>::infinity()}) {
    Buffer dtable(DType::fx128, {V, 2}, std::vector<double>(V * 2, 1.0)), before = dtable;
    std::int32_t refused = 0;
    embedding_backward(stream, Buffer(DType::i32, {2}, {2, 2}), Buffer(DType::f32, {2, 2}, {bad, 0, 0, bad}), dtable,
                       {.refused = &refused});
    EXPECT_EQ(refused, 1) << bad;
    EXPECT_TRUE(dtable == before) << bad;
    embedding_backward(stream, Buffer(DType::i32, {1}, {2}), Buffer(DType::f32, {1, 2}, {1, 1}), dtable,
                       {.refused = &refused});
    EXPECT_EQ(refused, 1) << "the flag is never cleared";
  }
}

}  // namespace
}  // namespace fourmi
