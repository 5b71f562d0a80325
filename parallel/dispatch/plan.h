// What a dispatcher knows of one micro-batch's routing, and the memory that it works in. Both belong to the caller; the
// large parts are tensors from a list (fields), so that arenas can measure them.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/dispatch/route.h"

namespace fourmi {

/// Sizes of the lists below; of one dispatcher, the same for all micro-batches. A size of 0: not needed.
struct DispatchSizes {
  std::int64_t max_tokens = 0;   ///< of this rank's micro-batch
  std::int64_t num_choices = 0;  ///< K
  std::int64_t max_rows = 0;     ///< that arrive in one round; 0: rows stay where they are
  std::int64_t row_bytes = 0;    ///< of the widest row
  std::int64_t record_bytes = 0;
  std::int64_t token_ranks = 0;    ///< most ranks (nodes) that a token goes to
  std::int64_t max_forwards = 0;   ///< rows that pass through this rank on their way into its node
  std::int64_t forward_ranks = 0;  ///< most ranks of the node that one of them goes to
  std::int64_t staging_rows = 0;   ///< of each of the buffers
  std::int64_t most_arrivals = 0;  ///< rows that arrive here in a round
  std::int64_t most_choices = 0;   ///< choices among them that are computed here
  std::int64_t window_bytes = 0;   ///< of the memory that peers write to (Dispatcher's own)
  std::int64_t route_rounds = 0;   ///< most rounds whose counts stay on the card
  std::int64_t route_entries = 0;  ///< numbers of each
  bool two_hops = false;
};

/// The handle of a micro-batch: made by plan(), used by every dispatch and combine of it, forward and backward.
struct DispatchPlan {
  Tensor experts_MK;                      ///< the caller's, unchanged for as long as the plan is used
  Route tokens;                           ///< my tokens to ranks, or to nodes
  Route forwards;                         ///< rows that pass through here, to the ranks of my node
  std::vector<std::int64_t> token_begin;  ///< [rounds + 1]
  /// [rounds][ranks]: rows from each rank; on a card those to each as well. Empty: not known yet. On a card whoever
  /// finishes the first transfer of the plan finds them.
  mutable std::vector<std::size_t> arriving, leaving;
  Tensor counts_QN;                                      ///< on a card: i32, of each round exchange::CardRoute's tables
  std::vector<std::int32_t> lanes_sent, lanes_received;  ///< device: [rounds][ranks][channels] rows

  int num_rounds() const { return static_cast<int>(token_begin.size()) - 1; }
  /// The round's tokens are [begin(round), end(round)) of mine.
  std::int64_t begin(int round) const { return token_begin[static_cast<std::size_t>(round)]; }
  std::int64_t end(int round) const { return begin(round + 1); }
  /// The round's rows of a tensor of all tokens; nothing of an absent one.
  Tensor of_round(const Tensor& x_M, int round) const;
  /// Rows that arrive here: U of the round.
  std::int64_t num_arriving(int round) const;

  /// visit(tensor, name, shape, dtype)
  template <class Visit>
  void fields(const DispatchSizes& s, Visit&& visit) {
    if (s.token_ranks > 0) {
      visit(tokens.rank_RC, "token_rank", Shape{s.max_tokens, s.token_ranks}, DType::i32);
      visit(tokens.row_RC, "token_row", Shape{s.max_tokens, s.token_ranks}, DType::i32);
    }
    if (s.route_rounds > 0) visit(counts_QN, "dispatch_counts", Shape{s.route_rounds, s.route_entries}, DType::i32);
    if (s.two_hops) {
      visit(forwards.rank_RC, "forward_rank", Shape{s.max_forwards, s.forward_ranks}, DType::i32);
      if (s.window_bytes > 0) return;  // they go on one by one
      visit(forwards.row_RC, "forward_row", Shape{s.max_forwards, s.forward_ranks}, DType::i32);
    }
  }
};

/// Working memory of one transfer at a time; may be shared by layers and micro-batches.
struct DispatchBuffers {
  Tensor rows, more_rows;                       // u8 [staging_rows, row_bytes]
  Tensor records, packed_records, got_records;  // u8 [staging_rows, record_bytes]

  template <class Visit>
  void fields(const DispatchSizes& s, Visit&& visit) {
    if (s.window_bytes > 0 || s.staging_rows > 0)
      visit(got_records, "dispatch_got_records", Shape{s.max_rows, s.record_bytes}, DType::u8);
    if (s.staging_rows == 0) return;
    visit(rows, "dispatch_rows", Shape{s.staging_rows, s.row_bytes}, DType::u8);
    if (s.route_rounds > 0) return;  // on a card: sums alone
    visit(records, "dispatch_records", Shape{s.staging_rows, s.record_bytes}, DType::u8);
    visit(packed_records, "dispatch_packed_records", Shape{s.staging_rows, s.record_bytes}, DType::u8);
    if (!s.two_hops) return;
    visit(more_rows, "dispatch_more_rows", Shape{s.staging_rows, s.row_bytes}, DType::u8);
  }
};

/// Rows as they arrive where their experts are, U of them: by source rank, then by token.
struct Arrivals {
  Tensor x_UD;        ///< of any dtype
  Tensor experts_UK;  ///< i32, ids from this rank's first expert on; -1: held elsewhere
  Tensor weights_UK;  ///< 0 where the expert is held elsewhere

  /// Memory for the largest round, of rows of D elements. visit(tensor, name, shape, dtype)
  template <class Visit>
  void fields(const DispatchSizes& s, std::int64_t D, DType rows, DType weights, Visit&& visit) {
    if (s.max_rows == 0) return;
    visit(x_UD, "arrived_rows", Shape{s.most_arrivals, D}, rows);
    visit(experts_UK, "arrived_experts", Shape{s.most_arrivals, s.num_choices}, DType::i32);
    visit(weights_UK, "arrived_weights", Shape{s.most_arrivals, s.num_choices}, weights);
  }
};

}  // namespace fourmi
