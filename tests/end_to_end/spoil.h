// Faults in a rank's numbers, put where the guard must find them: in the rank's own copy of a weight, in a layer's
// output, in a gradient before the sum over ranks, in the optimizer's state, in what products of eight bits read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "framework/train/engine.h"
#include "tests/train/eight_bit_faults.h"

namespace fourmi::testing {

/// Where a fault is put: one parameter, one element, one layer.
inline constexpr const char* spoiled_parameter = "model.layers.1.mlp.shared_experts.down_proj.weight";  // [32, 16]
inline constexpr std::int64_t spoiled_element = 37;                                                     // [2, 5]
inline constexpr std::int64_t spoiled_layer = 1;

class Spoiler {
 public:
  void set_engine(Engine& engine) {
    engine_ = &engine;
    engine.set_activation_probe([this](std::int64_t layer, const Tensor& output) {
      if (layer != spoiled_layer || step_ != activation_step_) return;
      put(output, spoiled_element, std::numeric_limits<double>::infinity());
      if (once_) activation_step_ = -1;
    });
  }
  /// The step that this rank is in.
  void enter(std::int64_t step) {
    step_ = step;
    if (eight_bits_) eight_bits_->enter(step);
  }
  /// nan_weight, nan_gradient, nan_state: now. inf_activation: in every forward pass of this step; inf_activation_once:
  /// in the next. times_10: every gradient of this rank. flip_bit: the lowest that is left in bf16, of one
  /// weight that every token meets, in a run on one rank. A name of eight_bit_faults.h, with _ for spaces: in the
  /// layer, from the next step on (at the phase optimizer). False for other words.
  bool spoil(const std::string& how) {
    if (!engine_) return false;
    const ParameterStore& store = engine_->store();
    const double nan = std::numeric_limits<double>::quiet_NaN();
    if (how == "nan_weight") return put(store.weight(store.slot(spoiled_parameter)), spoiled_element, nan);
    if (how == "nan_gradient") return put(store.gradient(store.slot(spoiled_parameter)), spoiled_element, nan);
    if (how == "nan_state") {
      for (const Box& box : engine_->boxes())
        if (box.name.find("exp_avg_sq") != std::string::npos)
          return put(box.data, 0, std::numeric_limits<double>::quiet_NaN());
      return true;
    }
    if (how == "times_10") {
      for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision}) times_10(store.gradients(set));
      return true;
    }
    if (how == "flip_bit") return flip_bit();
    if (spoil_eight_bits(how)) return true;
    if (how != "inf_activation" && how != "inf_activation_once") return false;
    activation_step_ = step_;
    once_ = how == "inf_activation_once";
    return true;
  }

 private:
  bool spoil_eight_bits(std::string how) {
    std::replace(how.begin(), how.end(), '_', ' ');
    std::vector<EightBitFault::Kind> kinds = eight_bit_faults();
    kinds.push_back(not_finite_fault());
    for (const EightBitFault::Kind& kind : kinds) {
      if (how != kind.name) continue;
      eight_bits_.emplace(*engine_, kind, spoiled_layer, step_);
      eight_bits_->enter(step_);
      return true;
    }
    return false;
  }
  bool flip_bit() {
    for (const Box& box : engine_->boxes())
      if (box.name.find("/master/") != std::string::npos && box.name.ends_with("o_proj.weight") &&
          box.data.dtype == DType::f32) {
        *static_cast<std::uint32_t*>(box.data.data) ^= 1U << 16;
        engine_->state_loaded();
        return true;
      }
    return false;
  }
  static bool put(const Tensor& x, std::int64_t element, double value) {
    if (x.dtype == DType::f64) x.as<double>()[element] = value;
    if (x.dtype == DType::f32) x.as<float>()[element] = static_cast<float>(value);
    if (x.dtype == DType::bf16) x.as<bfloat16>()[element] = bfloat16(static_cast<float>(value));
    return true;
  }
  static void times_10(const Tensor& x) {
    for (std::int64_t i = 0; i < x.num_elements(); ++i) {
      if (x.dtype == DType::f32) x.as<float>()[i] *= 10;
      if (x.dtype == DType::fx128) x.as<int128>()[i] *= 10;
    }
  }

  Engine* engine_ = nullptr;
  std::int64_t step_ = 0, activation_step_ = -1;
  bool once_ = false;
  std::optional<EightBitFault> eight_bits_;
};

}  // namespace fourmi::testing
