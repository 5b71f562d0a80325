// The optimizer under ZeRO: a rank owns panels of each parameter's rows; it sums their gradients over ranks, updates
// its masters and moments, and all ranks gather the new weights. Gradients are summed once a step; from ZeRO 2 on a
// layer's after each of its backwards, and added up by the owners. Weights are gathered once a step; with ZeRO 3 a
// layer's whenever it works. In a run of eight bits the owners quantise what products read, and that is what is
// gathered (docs/precision.md). Order of sums: docs/numerics.md "Sums across ranks", "Norms, clipping, loss".
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "framework/checkpoint/boxes.h"
#include "framework/model/context.h"
#include "framework/model/store.h"
#include "framework/train/arenas.h"
#include "framework/train/staging.h"
#include "kernels/ops/adamw.h"
#include "kernels/runtime/stream.h"
#include "parallel/groups.h"
#include "parallel/zero.h"

namespace fourmi {

/// A rank among those that hold the same parameters, each with a part of their gradients.
struct Member {
  int rank = 0, size = 1;
};

/// This rank's place in each of RankGroups' groups that hold the same parameters.
struct Memberships {
  std::array<Member, all_copies.size()> holders;  ///< by Copies
  Member embedding;                               ///< of several stages
  const Member& of(const Parameter& p) const {
    return p.stage_copies ? embedding : holders[static_cast<std::size_t>(p.copies)];
  }
};

/// In which form layers' linear maps and experts are gathered in a run of eight bits: as their products read them, or
/// for a comparison in full too.
struct WeightForms {
  PromotedLayers promoted;
  bool both = false;
  bool in_full(std::int64_t layer) const { return both || is_promoted(promoted, layer); }
  bool scaled(std::int64_t layer) const { return both || !is_promoted(promoted, layer); }
};

class Optimizer {
 public:
  /// Memory from `arenas`, which may be measuring; the store's ZeRO level. `staged`: masters and moments lie on the
  /// host and come to the device panel by panel (staging.h); AdamW works element by element, so that changes no bit.
  Optimizer(const ParameterStore& store, DType moment_dtype, bool staged, const Memberships& members, Arenas& arenas);

  /// The lists of parameters of a region that the same ranks hold, in the order in which they are reduced, with who
  /// owns what.
  using PlanVisitor = std::function<void(const Region& region, std::vector<const Parameter*> parameters, ShardPlan plan,
                                         Member member)>;
  static void visit_plans(const ParameterTable& table, const ModelTypes& types, ZeroLevel level,
                          const Memberships& members, const PlanVisitor& visit);
  /// Elements of masters of a rank with these places.
  static std::int64_t num_masters(const ParameterTable& table, const ModelTypes& types, ZeroLevel level,
                                  const Memberships& members);
  /// Bytes of scratch with which a list's gradients and weights travel.
  static std::int64_t scratch_bytes(const ShardPlan& plan, DType gradient, DType weight);

  /// Masters from the seed, moments zero; weights of all ranks follow by gather_weights().
  void initialise(const Stream&, std::uint64_t seed, double initializer_range);

  /// Before a step's gradients: sums of layers begin from zero.
  void begin_step(const Stream&);
  /// From ZeRO 2 on: adds a layer's gradient, summed over those that hold it, to this rank's shards, and makes the
  /// store's zero for the next layer.
  void reduce_layer(const Stream&, const RankGroups&, std::int64_t layer);
  /// Sums the store's other gradients over those that hold the same parameters into this rank's shards.
  void reduce(const Stream&, const RankGroups&);
  /// Of the summed gradients in this rank's shards, each parameter on one rank only: the largest magnitude (NaN and
  /// infinity as max_abs has them), and the sum of squares as sum_squares has it.
  double largest_gradient(const Stream&) const;
  int128 gradient_squares(const Stream&, int exponent) const;
  /// One AdamW step on the shards (weight_decay only where the parameter table says so), and then as gather_weights;
  /// what no other rank waits for is updated while the first weights travel.
  void update_and_gather(const Stream&, const RankGroups&, const AdamW&, const WeightForms&);
  /// Every rank's new weights to every rank; under ZeRO 3 but for those of layers, which are quantised alone.
  void gather_weights(const Stream&, const RankGroups&, const WeightForms&);
  /// ZeRO 3: a layer's weights.
  void gather_layer(const Stream&, const RankGroups&, std::int64_t layer, const WeightForms&);
  /// Below ZeRO 3: what has copies with scales in full too, as it is now.
  void gather_in_full(const Stream&, const RankGroups&);

  /// The reduced gradient of this rank's rows of each parameter, for tests: called as visit(parameter, first_row,
  /// gradient rows).
  void visit_gradients(const std::function<void(const Parameter&, std::int64_t, const Tensor&)>& visit) const;
  /// The rows themselves, also where memory is only measured: visit(parameter, first_row, num_rows).
  void visit_rows(const std::function<void(const Parameter&, std::int64_t, std::int64_t)>& visit) const;
  /// The same of its new weights.
  void visit_weights(const std::function<void(const Parameter&, std::int64_t, const Tensor&)>& visit) const;
  /// Masters and moments as boxes of the global index space; loading writes through the same boxes, then call
  /// masters_changed().
  std::vector<Box> boxes() const;
  /// Weights of this rank's shard from its masters (rounded once), before gather_weights().
  void masters_changed(const Stream&);

 private:
  struct Shard {
    Region region;      // in which all of them lie
    Copies copies;      // of all of them
    bool stage_copies;  // Parameter::stage_copies
    int rank;           // of this one in their group
    std::vector<const Parameter*> parameters;
    ShardPlan plan;
    Tensor gradient, weight;         // packed: my runs, one after another
    double magnitude = -1;           // the largest of the reduced gradient; negative: not known
    Tensor scaled;                   // u8: my runs of weights' copies; absent: there are none, or they lie in the store
    std::optional<Ownership> bytes;  // of these
    std::vector<double> largest;     // magnitude of each parameter, where it decides the scale
    Tensor sum;                      // of a layer's gradients, in their dtype; absent where they are summed once a step
    OptimizerState state;            // as these; in host memory where it is staged
    std::int64_t scratch;            // bytes, equal on all ranks of the group
  };
  void add_shard(const Region& region, std::vector<const Parameter*> parameters, ShardPlan plan, DType moment_dtype,
                 int rank, Arenas& arenas);
  bool in_step(const Shard& s, ZeroLevel from) const { return s.region.layer >= 0 && store_->level() >= from; }
  bool summed_in_step(const Shard& s) const { return in_step(s, ZeroLevel::gradients); }
  bool gathered_in_step(const Shard& s) const { return in_step(s, ZeroLevel::weights); }
  /// Copies of my rows of all shards that have such.
  void quantise(const Stream&, const RankGroups&);
  void gather(const Stream&, const Shard& s, const RankGroups&, const WeightForms&) const;
  void gather_weight(const Stream&, const Shard& s, const RankGroups&,
                     const std::function<void()>& meanwhile = {}) const;
  void update(const Stream&, Shard& s, const AdamW&);
  void take_sum(const Stream&, Shard& s, const RankGroups&, const std::function<void()>& meanwhile = {});
  static void measure(const Stream&, Shard& s);
  void derive(const Stream&, const Region&, const WeightForms&) const;
  static Group& group_of(const Shard& s, const RankGroups& groups) {
    return s.stage_copies ? groups.embedding() : groups.holders(s.copies);
  }
  /// Calls visit(shard, parameter, run) for each run of rows that this rank owns.
  template <class Visit>
  void runs(Visit&& visit) const {
    for (const Shard& shard : shards_)
      for (const RowRun& run : shard.plan.runs(shard.rank)) visit(shard, *shard.parameters[run.tensor], run);
  }

  const ParameterStore* store_;
  DeviceRuntime* device_;  // null: the CPU
  /// Calls compute(begin, end, state on the device) for the parts of `state`; what it writes into the state stays.
  template <class Compute>
  void on_device(const Stream& stream, const OptimizerState& state, Staging::Back back, const Compute& compute) {
    if (staging_)
      staging_->visit(stream, state, back, compute);
    else
      compute(std::int64_t{0}, state.master.num_elements(), state);
  }

  std::vector<Shard> shards_;
  std::optional<Staging> staging_;
  Tensor largest_1_;  // of a run, where a parameter has one scale
  Tensor scratch_;
};

}  // namespace fourmi
