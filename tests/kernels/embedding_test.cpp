#include "kernels/ops/embedding.h"

#include <cmath>
#include <limits>

#include "kernels/ops/tree_sum.h"
#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"
#include "tests/kernels/every_stream.h"

namespace fourmi {
namespace {

using test::Buffer;
using test::on_card;
using test::on_streams_of_device;
using test::stream_of;

constexpr DType floats[] = {DType::f64, DType::f32, DType::bf16};
const std::vector<double> tokens = {3, 0, 3, 6, 3, 0, 2};  // a token three times, some never
constexpr std::int64_t M = 7, V = 7;

TEST(Embedding, ForwardTakesRows) {
  for (std::int64_t D : {1, 16, 37})
    for (DType from : floats)
      for (DType to : floats) {
        Buffer ids(DType::i32, {M}, tokens), table = test::noisy(from, {V, D}, 1);
        on_streams_of_device([&](const Stream& s) {
          Buffer x(to, {M, D}), expected(to, {M, D});
          embedding_forward(s, ids, table, x);
          for (std::int64_t i = 0; i < M * D; ++i) expected.set(i, table.get(ids.id(i / D) * D + i % D));
          EXPECT_TRUE(x == expected);
        });
      }
  ThreadPool pool(1);
  Buffer none(DType::i32, {0}), table = test::noisy(DType::f32, {V, 4}, 1), x(DType::f32, {0, 4});
  embedding_forward(stream_of(pool), none, table, x);
}

// Parts of rows that are whole and such that are not, rows of other ranks among them, and addresses where no vector
// begins: table and rows one after another in one buffer.
TEST(Embedding, ForwardOfAnySizeAndAddress) {
  ThreadPool pool(1);
  constexpr std::int64_t num = 30, rows = 5, first = 2, V9 = 9;
  Buffer ids(DType::i32, {num});
  ids.fill([](std::int64_t i) { return double(i * i % V9); });
  for (std::int64_t D : {1, 8, 37, 264, 1024, 1032, 1536})
    for (DType dtype : floats)
      for (std::int64_t apart : {rows * D, rows * D + 1}) {
        const Buffer all = test::noisy(dtype, {apart + num * D}, 1);
        const Tensor table = all->rows(0, rows * D).view({rows, D}),
                     x = all->rows(apart, apart + num * D).view({num, D});
        const DType other = dtype == DType::bf16 ? DType::f32 : DType::bf16;
        const Buffer y(other, {num, D}), want_x(dtype, {num, D}), want_y(other, {num, D});
        for (std::int64_t i = 0; i < num * D; ++i) {
          const std::int64_t row = ids.id(i / D) - first;
          const double value = row >= 0 && row < rows ? all.get(row * D + i % D) : -0.0;
          want_x.set(i, value), want_y.set(i, value);
        }
        embedding_forward(stream_of(pool), ids, table, x, {.first = first, .size = V9});
        embedding_forward(stream_of(pool), ids, table, y, {.first = first, .size = V9});
        EXPECT_TRUE(test::same_bytes(x, want_x)) << name_of(dtype) << " " << D << " " << apart;
        EXPECT_TRUE(y == want_y) << name_of(dtype) << " " << D << " " << apart;
      }
}

TEST(Embedding, TokenOutsideIsAnErrorThatNamesIt) {
  ThreadPool pool(2);
  const Stream stream = stream_of(pool);
  Buffer table = test::noisy(DType::f32, {V, 4}, 1), x(DType::f32, {2, 4});
  for (double bad : {7.0, -1.0, 1e9}) {
    try {
      embedding_forward(stream, Buffer(DType::i32, {2}, {1, bad}), table, x);
      FAIL() << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::input);
      for (std::int64_t i = 0; i < 8; ++i) EXPECT_TRUE(test::is_poison(x, i));
      EXPECT_NE(std::string(e.what()).find(fmt::format("token {} at position 1, a vocabulary of 7", bad)),
                std::string::npos)
          << e.what();
    }
  }
  Buffer dtable = test::noisy(DType::f32, {V, 4}, 2), before = dtable;
  if (on_card()) {  // skipped, so that the host need not wait: a forward pass has refused the same tokens
    const Buffer dx = test::noisy(DType::f32, {2, 4}, 3);
    embedding_backward(stream, Buffer(DType::i32, {2}, {9, 7}), dx, dtable);
    embedding_backward(stream, Buffer(DType::i32, {2}, {9, 6}), dx, dtable, {}, {.size = 6});
  } else {
    EXPECT_THROW(embedding_backward(stream, Buffer(DType::i32, {2}, {1, 7}), x, dtable), Error);
  }
  EXPECT_TRUE(dtable == before);
}

TEST(Embedding, TheFirstTokenOutsideIsNamed) {
  ThreadPool pool(1);
  Buffer ids(DType::i32, {5000}), table = test::noisy(DType::f32, {V, 1}, 1), x(DType::f32, {5000, 1});
  ids.fill([](std::int64_t i) { return i > 0 && i % 1201 == 0 ? double(i) : double(i % 7); });
  try {
    embedding_forward(stream_of(pool), ids, table, x);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("token 1201 at position 1201,"), std::string::npos) << e.what();
  }
}

// Several tiles of positions, tokens with one position and with many, and (the last) more than are sorted together.
TEST(Embedding, BackwardOfManyTokens) {
  ThreadPool pool(1);
  struct Case {
    std::int64_t num, rows, D;
  };
  for (const auto& [num, rows, D] :
       {Case{2048, 5000, 8}, Case{2049, 300, 37}, Case{5000, 70, 264}, Case{4100, 1, 8}, Case{67000, 9, 1}})
    for (DType dtype : floats) {
      const DType sums = accumulate_dtype(dtype);
      Buffer ids(DType::i32, {num}), dx = test::noisy(dtype, {num, D}, 2), start = test::noisy(sums, {rows, D}, 3);
      ids.fill([n = rows](std::int64_t i) {
        return i % 3 == 0 ? double(n / 2) : i % 31 == 0 ? -1.0 : double((i * 2654435761 >> 7) % n);
      });
      const Buffer want = start;
      for (std::int64_t i = 0; i < num; ++i)
        for (std::int64_t d = 0; d < D && ids.id(i) >= 0; ++d) {
          const std::int64_t to = ids.id(i) * D + d, from = i * D + d;
          if (sums == DType::f64)
            want.at<double>(to) += dx.at<double>(from);
          else
            want.at<float>(to) += static_cast<float>(dx.get(from));
        }
      embedding_backward(stream_of(pool), ids, dx, start);
      EXPECT_TRUE(start == want) << name_of(dtype) << " " << num << " " << rows << " " << D;
    }
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
      on_streams_of_device([&](const Stream& s) {
        Buffer dtable = start;
        embedding_backward(s, ids, dx, dtable);
        EXPECT_TRUE(dtable == expected);
      });
    }
}

// sum_d,i g[i,d] * table[tokens[i],d] has the table's gradient sum_i g[i,d].
TEST(Embedding, BackwardIsTheAdjointOfForward) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool);
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
    on_streams_of_device([&](const Stream& s) {
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
    EXPECT_THROW(embedding_forward(stream_of(pool), Buffer(DType::i32, {1}, {7}), table, x, {.size = V}), Error);
    EXPECT_THROW(embedding_forward(stream_of(pool), Buffer(DType::i32, {1}, {1}), table, x, {.first = 4}), Error);
  }
}

TEST(Embedding, ExactSumsNeedNoOrder) {
  if (on_card()) GTEST_SKIP() << "fx128 is mode layout's";
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
    on_streams_of_device([&](const Stream& s) {
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
  if (on_card()) GTEST_SKIP() << "fx128 is mode layout's";
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
