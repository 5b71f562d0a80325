// ZeRO 2 and 3 (Rajbhandari et al. 2020, section 5) at the granularity of a layer: while a layer works its weights are
// there whole, and its gradient until the ranks have summed it. Between that a rank has its panels alone.
#pragma once

#include <cstdint>

namespace fourmi {

class LayerPanels {
 public:
  virtual ~LayerPanels() = default;
  LayerPanels() = default;
  LayerPanels(const LayerPanels&) = delete;
  LayerPanels& operator=(const LayerPanels&) = delete;

  /// Collective among the ranks that hold the layer. Its weights are whole until another layer's are asked for.
  /// Multi-token prediction is the layer after the last.
  virtual void need(std::int64_t layer) = 0;
  /// Collective among them. The layer's gradient of this micro-batch is complete: it goes to its owners, and its memory
  /// to the next layer.
  virtual void reduce(std::int64_t layer) = 0;
};

}  // namespace fourmi
