// A routing that ranks of one card exchange rows by, what is sent, and what has to come of it: arrivals to the byte,
// and sums by sum_copies() of the CPU.
#pragma once

#include <gtest/gtest.h>

#include "kernels/exchange/on_card.h"
#include "kernels/ops/dispatch_rows.h"
#include "tests/dispatch/layer.h"

namespace fourmi::testing {

using exchange::TokenRun;

struct ExchangeCase {
  Layer layer;
  DType rows = DType::f32;      ///< of y
  std::int64_t row_bytes = 96;  ///< that are dispatched
  DType weights = DType::f32;   ///< of a record
  int num_channels = 2, num_slots = 4, num_rounds = 1;
  std::int64_t capacity = -1;  ///< rows that may arrive; -1: all that come
  std::chrono::milliseconds patience{60'000};
  int stops_at = 99, who_stops = 2;  ///< before which call a rank stops: 0 count, 1 dispatch, 2 combine

  int num_ranks() const { return static_cast<int>(layer.tokens.size()); }
  int experts_each() const { return static_cast<int>(layer.E) / num_ranks(); }
  std::int64_t tokens(int rank) const { return layer.tokens[static_cast<std::size_t>(rank)]; }
  std::int64_t record_bytes() const { return fourmi::record_bytes(layer.K, weights); }
  TokenRun round(int rank, int q) const { return exchange::run_of(q, num_rounds, 0, tokens(rank)); }
  DType copies() const { return accumulate_dtype(rows); }

  /// Ranks that a token goes to.
  std::vector<int> ranks_of(int rank, std::int64_t t) const {
    std::vector<int> ranks;
    for (const std::int32_t e : layer.experts(rank, t))
      if (ranks.empty() || ranks.back() != e / experts_each()) ranks.push_back(e / experts_each());
    return ranks;
  }
  /// Tokens of a round of `from` that go to `to`.
  std::vector<std::int64_t> tokens_to(int from, int to, int q) const {
    std::vector<std::int64_t> all;
    const TokenRun run = round(from, q);
    for (std::int64_t t = run.begin; t < run.end; ++t) {
      const std::vector<int> ranks = ranks_of(from, t);
      if (std::find(ranks.begin(), ranks.end(), to) != ranks.end()) all.push_back(t);
    }
    return all;
  }
};

using Bytes = std::vector<std::byte>;

/// Any bytes, of a rank's rows.
inline Bytes bytes_of(const ExchangeCase& c, int rank, std::int64_t num_rows, std::int64_t row_bytes,
                      unsigned purpose) {
  Bytes all;
  for (std::int64_t t = 0; t < num_rows; ++t)
    for (std::int64_t i = 0; i < row_bytes; ++i)
      all.push_back(static_cast<std::byte>(c.layer.bits(rank, t, i, purpose)));
  return all;
}
/// Numbers of a dtype.
inline Bytes numbers_of(const ExchangeCase& c, int rank, std::int64_t num_rows, DType dtype, unsigned purpose) {
  Bytes all;
  const auto add = [&](auto x) {
    const auto* p = reinterpret_cast<const std::byte*>(&x);
    all.insert(all.end(), p, p + sizeof(x));
  };
  for (std::int64_t t = 0; t < num_rows; ++t)
    for (std::int64_t d = 0; d < c.layer.D; ++d) {
      const double x = c.layer.value(rank, t, d, purpose);
      if (dtype == DType::f64) add(x);
      if (dtype == DType::f32) add(static_cast<float>(x));
      if (dtype == DType::bf16) add(bfloat16(static_cast<float>(x)));
    }
  return all;
}
inline std::int64_t rows_in(const Bytes& bytes, std::int64_t row_bytes) {
  return static_cast<std::int64_t>(bytes.size()) / row_bytes;
}

inline exchange::Window window_of(const ExchangeCase& c) {
  const auto whole = [](std::int64_t bytes) { return (bytes + 15) / 16 * 16; };
  const int batch = std::max(1, c.num_slots / 4);
  return exchange::Window(
      {.num_ranks = c.num_ranks(),
       .num_channels = c.num_channels,
       .most_counts = c.num_rounds * c.num_channels,
       .dispatch = {whole(c.row_bytes) + whole(c.record_bytes()), c.num_slots, batch},
       .combine = {whole(std::max(c.layer.D * size_of(c.copies()), c.row_bytes)), c.num_slots, batch}});
}

enum Purposes : unsigned { of_rows = 20, of_own_weights, of_gradients, of_partial, of_residuals };

/// What a rank makes of the rows that arrive in a round.
inline Bytes partial_of(const ExchangeCase& c, int rank, int q, std::int64_t num_rows) {
  return numbers_of(c, 100 * (q + 1) + rank, num_rows, c.copies(), of_partial);
}

struct Exchanged {
  struct Round {
    Bytes rows, records, gradients;
    std::vector<std::int32_t> first;
  };
  std::vector<Round> rounds;
  Bytes y;
  std::string error;
};

/// Rows `which` of a rank's, joined.
inline void append(Bytes& all, const Bytes& rows, const std::vector<std::int64_t>& which, std::int64_t row_bytes) {
  for (const std::int64_t t : which)
    all.insert(all.end(), rows.begin() + t * row_bytes, rows.begin() + (t + 1) * row_bytes);
}

inline void expect_arrivals(const ExchangeCase& c, int rank, int q, const Exchanged::Round& got) {
  Bytes rows, records, gradients;
  std::vector<std::int32_t> first{0};
  for (int r = 0; r < c.num_ranks(); ++r) {
    const std::vector<std::int64_t> which = c.tokens_to(r, rank, q);
    append(rows, bytes_of(c, r, c.tokens(r), c.row_bytes, of_rows), which, c.row_bytes);
    append(gradients, bytes_of(c, r, c.tokens(r), c.row_bytes, of_gradients), which, c.row_bytes);
    const std::int64_t width = c.layer.K * size_of(c.weights);
    const Bytes weights = bytes_of(c, r, c.tokens(r), width, of_own_weights);
    for (const std::int64_t t : which) {
      for (const std::int32_t e : c.layer.experts(r, t)) {
        const auto* p = reinterpret_cast<const std::byte*>(&e);
        records.insert(records.end(), p, p + 4);
      }
      append(records, weights, {t}, width);
    }
    const TokenRun run = c.round(r, q);
    for (int channel = 0; channel < c.num_channels; ++channel) {
      const TokenRun part = exchange::run_of(channel, c.num_channels, run.begin, run.end - run.begin);
      first.push_back(first.back() +
                      static_cast<std::int32_t>(std::count_if(which.begin(), which.end(), [&](std::int64_t t) {
                        return part.begin <= t && t < part.end;
                      })));
    }
  }
  EXPECT_EQ(got.first, first) << "rank " << rank;
  EXPECT_TRUE(got.rows == rows) << "rows of rank " << rank << ", round " << q;
  EXPECT_TRUE(got.records == records) << "records of rank " << rank << ", round " << q;
  EXPECT_TRUE(got.gradients == gradients) << "gradients of rank " << rank << ", round " << q;
}

/// By the CPU's sum_copies(), from what all ranks gave.
inline Bytes expected_sums(const ExchangeCase& c, int rank) {
  const std::int64_t M = c.tokens(rank), D = c.layer.D, C = std::min<std::int64_t>(c.layer.K, c.num_ranks());
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(M * C), -1), rows = ranks;
  Bytes copies;
  for (int q = 0; q < c.num_rounds; ++q)
    for (int r = 0; r < c.num_ranks(); ++r) {
      std::int64_t before = 0, arriving = 0;  // rows at r of ranks before this one, and in all
      for (int s = 0; s < c.num_ranks(); ++s) {
        const auto n = static_cast<std::int64_t>(c.tokens_to(s, r, q).size());
        before += s < rank ? n : 0, arriving += n;
      }
      const Bytes partial = partial_of(c, r, q, arriving);
      const std::int64_t width = D * size_of(c.copies());
      for (const std::int64_t t : c.tokens_to(rank, r, q)) {
        const auto at = static_cast<std::size_t>(t * C);
        std::size_t place = at;
        while (ranks[place] >= 0) ++place;
        ranks[place] = r, rows[place] = static_cast<std::int32_t>(rows_in(copies, width));
        append(copies, partial, {before++}, width);
      }
    }
  ThreadPool pool(1);
  Bytes y(static_cast<std::size_t>(M * D * size_of(c.rows))), residual = numbers_of(c, rank, M, c.rows, of_residuals);
  if (M == 0) return y;
  const CopyPlaces places{Tensor(ranks.data(), DType::i32, {M, C}), Tensor(rows.data(), DType::i32, {M, C}),
                          c.num_ranks()};
  sum_copies(Stream(pool), places, Tensor(copies.data(), c.copies(), {rows_in(copies, D * size_of(c.copies())), D}),
             Tensor(y.data(), c.rows, {M, D}), Tensor(residual.data(), c.rows, {M, D}));
  return y;
}

}  // namespace fourmi::testing
