// Where rows go: each row to some ranks of a group, once to each. The ranks' numbers per row are given; a route knows
// the place of each copy in the packed buffers, in which copies lie by rank and then by row, and what comes back from
// where. The same route serves both directions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops/dispatch_rows.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Shapes   R rows, C most ranks that a row can go to.
struct Route {
  Tensor rank_RC;  ///< i32, ascending; -1 behind the last
  Tensor row_RC;   ///< i32: place of the copy in the round's packed buffer
  int size = 1;    ///< ranks of the group
  int rank = 0;    ///< this one

  std::vector<std::int64_t> row_begin;      ///< [rounds + 1]: the round's rows are [row_begin[q], row_begin[q + 1])
  std::vector<std::size_t> sent, received;  ///< [rounds][size]: copies to and from each rank

  std::int64_t num_rows(int round) const { return begin(round + 1) - begin(round); }
  std::int64_t begin(int round) const { return row_begin[static_cast<std::size_t>(round)]; }
  /// The round's rows of rank_RC or row_RC, and both for the sum of what comes back.
  Tensor of_round(const Tensor& table_RC, int round) const { return table_RC.rows(begin(round), begin(round + 1)); }
  CopyPlaces places(int round) const { return {of_round(rank_RC, round), of_round(row_RC, round), size}; }
  std::span<const std::size_t> sent_to(int round) const { return counts(sent, round); }
  std::span<const std::size_t> received_from(int round) const { return counts(received, round); }
  std::int64_t num_sent(int round) const { return total(sent_to(round)); }
  std::int64_t num_received(int round) const { return total(received_from(round)); }
  /// Copies that leave this rank.
  std::int64_t num_sent_away(int round) const {
    return num_sent(round) - static_cast<std::int64_t>(sent_to(round)[static_cast<std::size_t>(rank)]);
  }
  std::int64_t num_received_from_away(int round) const {
    return num_received(round) - static_cast<std::int64_t>(received_from(round)[static_cast<std::size_t>(rank)]);
  }

  /// Memory for the lists of so many rounds.
  void reserve(std::size_t num_rounds, std::size_t num_ranks);
  /// Forgets the last micro-batch; memory stays. All counts are zero.
  void reset(int num_rounds);
  /// From rank_RC and row_begin: `sent` and row_RC.
  void place_copies();

 private:
  std::span<const std::size_t> counts(const std::vector<std::size_t>& all, int round) const {
    return std::span(all).subspan(static_cast<std::size_t>(round * size), static_cast<std::size_t>(size));
  }
  static std::int64_t total(std::span<const std::size_t> counts);
  std::vector<std::size_t> next_;
};

}  // namespace fourmi
