// What an engine is made of. Inside of the engine alone: engine*.cpp.
#pragma once

#include "framework/train/coordinates.h"
#include "framework/train/engine.h"
#include "framework/train/step_orders.h"
#include "parallel/order/order_check.h"

namespace fourmi {

/// Layers whose weights or gradients take turns in memory.
class Engine::Panels : public LayerPanels {
 public:
  Panels(Optimizer& optimizer, const ParameterStore& store) : optimizer_(optimizer), store_(store) {}
  void connect(const RankGroups& groups, const Stream& stream) { groups_ = &groups, stream_ = &stream; }
  void need(std::int64_t layer) override;
  void reduce(std::int64_t layer) override;
  /// The weights have changed: none of a layer's in memory are true.
  void forget() { present_ = -1; }

 private:
  Optimizer& optimizer_;
  const ParameterStore& store_;
  const RankGroups* groups_ = nullptr;
  const Stream* stream_ = nullptr;
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
  Optimizer optimizer;
  Panels panels;
  Pipeline pipeline;
  std::vector<Slot> router_biases;
  std::int32_t refused = 0;
};

/// Mode layout cuts every sum over tokens by 1/16 of a sequence (docs/numerics.md L3, L5); mode run has as few cuts as
/// the work allows. `refused`: where to say that a partial sum is not finite or too large for an exact one.
Context cuts_of(const Recipe& recipe, std::int32_t* refused);

}  // namespace fourmi
