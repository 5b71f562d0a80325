// Expert parallelism: a group of P ranks shares E experts, rank r holds experts [r E/P, (r+1) E/P), and tokens visit
// the experts that they chose. A token travels once to each rank (hierarchical, rail: node) that holds some of its
// experts, and one sum comes back from there. The library knows rows, not models: the same calls serve forward and
// backward.
//
//   plan(experts)                              once a micro-batch: counts are exchanged, rounds chosen
//   for each round
//     forward    dispatch(x, weights)          -> x, local experts and weights of the tokens that visit this rank
//                combine(partial)              y = residual + sum over ranks of their weighted sums
//     backward   dispatch(dy)                  -> dy of the same rows
//                combine(dx partial)           dx = ... ; combine(dweights) likewise, K numbers a row
//
// Order of sums: numerics.md L6. A rank gives the sum over its own experts (its subtree over expert leaves) in the
// accumulator dtype, unrounded; ranks are added by the perfect binary tree, absent ones being zeros; then addends, one
// rounding. All dispatchers give the same bits. A weight's gradient has one rank that knows it (L7); the others give 0.
//
// Collective calls: plan, dispatch and combine, by all ranks of the group for the same rounds in the same order.
// Sources: DeepSeek-V3 report 3.2.2 and DeepEP (layout, de-duplication, two hops).
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "kernels/runtime/stream.h"
#include "parallel/dispatch/plan.h"
#include "parallel/dispatch/planned_on_host.h"
#include "parallel/dispatch/rounds.h"
#include "parallel/group.h"

namespace fourmi {

enum class DispatchMethod : std::uint8_t { local, all_to_all, hierarchical, device, rail };
/// Does a token go once to each node, and from there to its ranks?
constexpr bool knows_nodes(DispatchMethod m) {
  return m == DispatchMethod::hierarchical || m == DispatchMethod::rail;
}

struct DispatchOptions {
  std::int64_t num_experts = 0;  ///< E, a multiple of the number of ranks
  std::int64_t num_choices = 0;  ///< K; a token's experts ascend
  std::int64_t max_tokens = 0;   ///< most tokens of a micro-batch on a rank; the same on all ranks
  std::int64_t row_bytes = 0;    ///< of the widest row that travels: D, or K if more, times the size of `weights`
  DType weights = DType::f32;    ///< of weights and sums: f32 or f64
  /// Most rows that any rank sends, passes on or receives at a time; 0: what the worst routing brings. Micro-batches
  /// that need more go in rounds.
  std::int64_t max_rows = 0;
  /// Most choices (rows of experts) that any rank computes at a time; 0: what max_rows allows.
  std::int64_t max_choices = 0;
  std::int64_t block = 0;  ///< rounds begin at multiples of so many tokens; 0: max_tokens
  int node_size = 1;       ///< hierarchical, rail: consecutive ranks of a node, a power of two that divides the group
  int num_channels = 2;    ///< device: runs that a rank's tokens are cut into, each with rings of its own; rail: chunks
  int num_slots = 8;       ///< device, rail: of a ring
  bool on_card = false;    ///< device: rows lie in GPUs' memory, and kernels move them
  std::chrono::milliseconds patience{
      0};  ///< device, rail: a peer that lets nothing come for longer is lost; 0: for ever
};

/// Bytes and rows of this rank that left it, since the beginning.
struct DispatchTraffic {
  std::int64_t rows_across = 0,
               bytes_across = 0;  ///< payload to other nodes (to other ranks, where there are no nodes)
  std::int64_t rows_inside = 0, bytes_inside = 0;  ///< payload to other ranks of the node
  std::int64_t routing_bytes = 0;                  ///< counts, masks, ids and weights
};

/// Load of this rank since the beginning, counted by plan().
struct DispatchLoad {
  std::int64_t micro_batches = 0, rounds = 0;
  std::int64_t tokens = 0;             ///< that began here
  std::int64_t arrived = 0;            ///< rows that visit this rank
  std::int64_t most_arrived = 0;       ///< of a micro-batch
  std::int64_t most_in_a_round = 0;    ///< at most max_rows
  std::int64_t most_destinations = 0;  ///< ranks (hierarchical, rail: nodes) of one token
};

/// A transfer that was started; finished by finish_dispatch or finish_combine. Tensors and plan given to start_* stay
/// as they are until then.
struct PeerTransfer;
struct Transit {
  const DispatchPlan* plan = nullptr;
  int round = 0;
  std::int64_t row_bytes = 0;
  Arrivals into;  ///< of the rows that arrive (dispatch); x_UD: what this rank gives (combine)
  DispatchBuffers buffers;
  Request rows, records;
  PeerTransfer* peer = nullptr;  ///< device: its lanes
};

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  const DispatchOptions& options() const { return options_; }
  const DispatchSizes& sizes() const { return sizes_; }
  const DispatchTraffic& traffic() const { return traffic_; }
  const DispatchLoad& load() const { return load_; }
  std::int64_t first_expert() const { return group_.rank() * num_local(); }
  std::int64_t num_local() const { return options_.num_experts / group_.size(); }

  /// Most rows that arrive here in a round, and most choices among them: what the model's buffers have to hold.
  std::int64_t most_arrivals() const { return sizes_.most_arrivals; }
  std::int64_t most_choices() const { return sizes_.most_choices; }

  /// Memory for a plan's lists of rounds, once; its fields are the caller's to allocate.
  void reserve(DispatchPlan&) const;
  /// A plan with memory for its lists of rounds.
  DispatchPlan make_plan() const;

  /// Collective. experts_MK: i32, M at most max_tokens, each row ascending.
  virtual void plan(const Stream&, const Tensor& experts_MK, DispatchPlan&, DispatchBuffers&);
  /// Throws Error(rank_lost) if a transfer of this rank came to no end: for transfers that the host does not wait for,
  /// when all work of the stream is done and before anything that came of it is kept.
  virtual void check() const {}

  /// x_MD: all tokens of the micro-batch, of which the round's travel; weights_MK may be absent: then only rows travel,
  /// in the order of the plan. `into` has room for num_arriving(round) rows.
  virtual Transit start_dispatch(const Stream&, const DispatchPlan&, int round, const Tensor& x_MD,
                                 const Tensor& weights_MK, const Arrivals& into, DispatchBuffers&) = 0;
  /// Views of the rows that arrived: of `into`, or of what was given where nothing has to move.
  virtual Arrivals finish_dispatch(const Stream&, Transit&) = 0;
  Arrivals dispatch(const Stream&, const DispatchPlan&, int round, const Tensor& x_MD, const Tensor& weights_MK,
                    const Arrivals& into, DispatchBuffers&);

  /// partial_UD: what this rank has for each row that arrived, f32 or f64 (zero where it has nothing).
  virtual Transit start_combine(const Stream&, const DispatchPlan&, int round, const Tensor& partial_UD,
                                DispatchBuffers&) = 0;
  /// Writes the round's tokens of y_MD: the sums over ranks, + first, + second (may be absent; whole [M, D]; may be y).
  virtual void finish_combine(const Stream&, Transit&, const Tensor& y_MD, const Tensor& first_MD,
                              const Tensor& second_MD) = 0;
  void combine(const Stream&, const DispatchPlan&, int round, const Tensor& partial_UD, DispatchBuffers&,
               const Tensor& y_MD, const Tensor& first_MD = {}, const Tensor& second_MD = {});

 protected:
  Dispatcher(DispatchMethod method, Group& group, const DispatchOptions& options, int num_kinds);
  /// Fills the plan's routes and arrivals; its tokens and their experts are set, and its tables are the host's.
  virtual void route(const Stream&, DispatchPlan&, DispatchBuffers&) = 0;

  /// Checks what start_dispatch (start_combine) was given, and begins its Transit.
  Transit open_dispatch(const DispatchPlan&, int round, const Tensor& x_MD, const Tensor& weights_MK,
                        const Arrivals& into, const DispatchBuffers&) const;
  Transit open_combine(const DispatchPlan&, int round, const Tensor& partial_UD, const DispatchBuffers&) const;
  /// What arrived, with experts and weights out of the records that came with it.
  Arrivals unpacked(const Stream&, const Transit&) const;

  /// Adds to load() what a plan brings, when it is known.
  void count_arrivals(const DispatchPlan&);

  std::int64_t num_blocks() const { return loads_.num_blocks(); }
  /// Can a bound be reached, so that a micro-batch may go in several rounds?
  bool is_bounded() const { return rows_bounded_ || choices_bounded_; }
  /// The block that a token lies in.
  std::int64_t block_of(std::int64_t token) const { return token / options_.block; }
  /// From loads_: the rounds as ends in blocks, and the plan's token_begin. Collective.
  void choose_rounds(DispatchPlan&);
  /// The blocks [first, end) of a round.
  std::int64_t first_block(int round) const { return round == 0 ? 0 : ends_[static_cast<std::size_t>(round) - 1]; }
  std::int64_t end_block(int round) const { return ends_[static_cast<std::size_t>(round)]; }
  /// Sum of counts[list][block] over the round's blocks.
  std::size_t in_round(const std::vector<std::int64_t>& counts, std::size_t list, int round) const;

  Group& group_;
  DispatchOptions options_;
  DispatchSizes sizes_;
  DispatchTraffic traffic_;
  DispatchLoad load_;
  BlockLoads loads_;

 private:
  void count_choices(const Tensor& experts_MK);

  HostTables host_;
  bool rows_bounded_ = false, choices_bounded_ = false;
  std::vector<std::int64_t> limits_;                      // [kinds]: the method's, then choices
  std::vector<std::int64_t> choices_sent_, choices_got_;  // [ranks][blocks]
  std::vector<std::int64_t> ends_;
};

/// Writes to `route` which of the destinations that hold `experts_each` consecutive experts each a token's experts
/// lie at: ascending, each once. Returns the most of a token.
std::int64_t list_destinations(const Tensor& experts_MK, std::int64_t experts_each, const Route& route);

/// Which of the bounds some routing can reach; where none, there is one round and nobody asks how many.
struct ReachableBounds {
  bool rows = false, choices = false;
  bool any() const { return rows || choices; }
};
ReachableBounds reachable_bounds(int num_ranks, const DispatchOptions& options);

/// What a rank of a group of so many needs memory for; the same on all of them. Throws as make_dispatcher.
DispatchSizes dispatch_sizes(DispatchMethod method, int num_ranks, const DispatchOptions& options);

/// Collective (hierarchical and rail make subgroups). A group of one is always local. Throws Error(usage) for sizes
/// that do not fit: experts or nodes that do not divide, a bound into which one block of every rank may not fit.
/// `window` (device, rail): u8 [DispatchSizes::window_bytes], which the other ranks write to for as long as the
/// dispatcher is.
std::unique_ptr<Dispatcher> make_dispatcher(DispatchMethod method, Group& group, const DispatchOptions& options,
                                            const Tensor& window = {});

}  // namespace fourmi
