// What an engine is made of. Inside of the engine alone: engine*.cpp.
#pragma once

#include "framework/train/coordinates.h"
#include "framework/train/cuts.h"
#include "framework/train/engine.h"
#include "framework/train/gradient_samples.h"
#include "framework/train/step_orders.h"
#include "kernels/numerics/fixed128.h"
#include "kernels/ops/reduce.h"
#include "parallel/order/order_check.h"

namespace fourmi {

/// Sums over the micro-batches of all ranks: exact, so their order does not matter.
struct Engine::Sums {
  int128 loss = 0, loss_mtp = 0, balance = 0, divergence = 0;
  bool finite = true;  ///< else some losses are in none of the sums
  void add(const Stream& stream, const Tensor& losses, int128& sum) {
    if (max_abs(stream, losses) < fixed128_limit)  // false for NaN
      sum += sum_fixed(stream, losses);
    else
      finite = false;
  }
};

/// What the guard of eight bits needs.
struct Engine::Guarded {
  Guarded(const ParameterTable& whole, const ParameterStore& store, const Optimizer& optimizer, Arenas& arenas)
      : samples(whole, optimizer, store.types().accumulate, arenas.gradients),
        statistics(samples.maps(), store.table(), store.types(), arenas.communication) {}
  GradientSamples samples;
  OperandStatistics statistics;
  ShadowLosses reference;
  PrecisionGap gap;
  std::vector<std::uint8_t> promoted;  // Promoting's
  std::vector<std::int64_t> counts;    // the experts' of the last step, which a comparison leaves as they are
};

/// Layers whose weights or gradients take turns in memory.
class Engine::Panels : public LayerPanels {
 public:
  Panels(Optimizer& optimizer, const ParameterStore& store) : optimizer_(optimizer), store_(store) {}
  void connect(const RankGroups& groups, const Stream& stream) { groups_ = &groups, stream_ = &stream; }
  /// The form in which a layer's weights come from here on.
  void begin(WeightForms forms) { forms_ = forms, present_ = -1; }
  void need(std::int64_t layer) override;
  void reduce(std::int64_t layer) override;

 private:
  Optimizer& optimizer_;
  const ParameterStore& store_;
  const RankGroups* groups_ = nullptr;
  const Stream* stream_ = nullptr;
  WeightForms forms_;
  std::int64_t present_ = -1;  // the layer whose weights are in memory
};

/// This rank's calls held against the order that was proven, where the recipe wants it.
class Engine::Calls {
 public:
  Calls(StepOrders orders, Group& world) : orders_(std::move(orders)), world_(world), check_(orders_.groups(), world) {}
  void begin_step(const StepSizes& step) {
    auto at = known_.find(step);
    if (at == known_.end()) at = known_.emplace(step, orders_.of(world_.rank(), step)).first;
    check_.begin_step(at->second);
  }
  void promote(PromotedLayers layers) {
    orders_.promote(layers);
    known_.clear();
  }
  OrderCheck& check() { return check_; }

 private:
  StepOrders orders_;
  Group& world_;
  std::map<StepSizes, StepOrder> known_;
  OrderCheck check_;
};

struct Engine::Parts {
  /// `groups`: null where memory is only measured.
  Parts(const Recipe& recipe, const StageMap& stages, const ParameterTable& held, const Coordinates& at,
        const LayerGroups& groups, Arenas& arenas);
  ParameterStore store;
  ModelTables tables;
  Tensor counts_LE;            // the tables' of the last step, for the host; in the end of all ranks
  std::size_t num_sums;        // losses and the norm's squares
  std::vector<int128> agreed;  // what ranks add up of a step: those, then these counts
  Optimizer optimizer;
  Panels panels;
  Pipeline pipeline;
  std::unique_ptr<Guarded> guarded;  // null: off
  std::vector<Slot> router_biases;
  std::int32_t refused = 0;
};

/// While it lives some layers work in bf16 besides those that do anyway.
class Engine::Promoting {
 public:
  template <class Which>
  Promoting(Engine& engine, const Which& which) : engine_(engine), mine_(engine.parts_->guarded->promoted) {
    mine_ = engine.promoted_;  // of equal size: takes no memory
    for (std::size_t l = 0; l < mine_.size(); ++l) mine_[l] |= which(static_cast<std::int64_t>(l)) ? 1 : 0;
    mine_.swap(engine.promoted_);
  }
  ~Promoting() { mine_.swap(engine_.promoted_); }
  Promoting(const Promoting&) = delete;
  Promoting& operator=(const Promoting&) = delete;

 private:
  Engine& engine_;
  std::vector<std::uint8_t>& mine_;
};

}  // namespace fourmi
