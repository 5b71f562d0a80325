// Ten faults in the quantisers of one layer, as bugs of kernels would have them: they spoil what products of eight bits
// read, begin at a step and stay. In bf16 the layer is whole.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#include "framework/train/engine.h"

namespace fourmi::testing {

class EightBitFault {
 public:
  /// Called with the operand's rows (e4m3_rows).
  using Spoil = std::function<void(const Tensor& operand)>;
  struct Kind {
    const char* name;
    const char* matrix;  ///< of the layer, the end of its first parameter's name
    OperandRole role;
    Spoil spoil;   ///< of the operand; null: `weight`
    Spoil weight;  ///< of the weight's copy (e4m3_panels); put again before each product
  };

  /// Not in force before step `from`. `engine` outlives it.
  EightBitFault(Engine& engine, const Kind& kind, std::int64_t layer, std::int64_t from) : kind_(kind), from_(from) {
    for (const Parameter& p : engine.store().table().all())
      if (p.layer == layer && p.is_map && p.name.ends_with(kind.matrix) && !found_)
        slot_ = engine.store().slot(p.name), found_ = true;
    FOURMI_CHECK(found_, "no {} in layer {}", kind.matrix, layer);
    engine.set_operand_probe([this, &engine](const Slot& w, OperandRole role, const Tensor& x) {
      if (step_ < from_ || w.offset != slot_.offset || !has_scales(x.dtype)) return;
      if (kind_.spoil && role == kind_.role) kind_.spoil(x);
      if (kind_.weight && role == OperandRole::activation) kind_.weight(engine.store().matrix(slot_));
    });
  }
  void enter(std::int64_t step) { step_ = step; }

  static std::uint8_t* elements(const Tensor& x, std::int64_t row) {
    return static_cast<std::uint8_t*>(x.rows(row, row + 1).data);
  }
  static float* scales(const Tensor& x, std::int64_t row) {
    return reinterpret_cast<float*>(elements(x, row) + x.dim(1));  // 1 x 128 each; columns are multiples of 128
  }
  static std::int64_t num_scales(const Tensor& x) { return x.dim(1) / 128; }

 private:
  Kind kind_;
  Slot slot_;
  bool found_ = false;
  std::int64_t from_, step_ = 0;
};

namespace detail {
inline void each_scale(const Tensor& x, const std::function<float(float)>& change) {
  for (std::int64_t r = 0; r < x.dim(0); ++r)
    for (std::int64_t g = 0; g < EightBitFault::num_scales(x); ++g) {
      float& s = EightBitFault::scales(x, r)[g];
      s = change(s);
    }
}
inline void each_element(const Tensor& x, const std::function<std::uint8_t(std::uint8_t, std::int64_t)>& change) {
  for (std::int64_t r = 0; r < x.dim(0); ++r)
    for (std::int64_t k = 0; k < x.dim(1); ++k)
      EightBitFault::elements(x, r)[k] = change(EightBitFault::elements(x, r)[k], k);
}
}  // namespace detail

inline std::vector<EightBitFault::Kind> eight_bit_faults() {
  using detail::each_element;
  using detail::each_scale;
  constexpr OperandRole activation = OperandRole::activation, gradient = OperandRole::gradient;
  constexpr std::uint8_t largest = 0x7e;  // 448
  return {
      {"activations x 1e4", "o_proj.weight", activation,
       [](const Tensor& x) { each_scale(x, [](float s) { return s * 1e4F; }); }, nullptr},
      {"a stuck channel", "o_proj.weight", activation,
       [](const Tensor& x) { each_element(x, [](std::uint8_t q, std::int64_t k) { return k == 5 ? largest : q; }); },
       nullptr},
      {"activations' scales are zero", "down_proj.weight", activation,
       [](const Tensor& x) { each_scale(x, [](float) { return 0.0F; }); }, nullptr},
      {"a weight's scales are zero", "o_proj.weight", activation, nullptr,
       [](const Tensor& w) {
         // A panel: 128 rows of elements, then their scales.
         const std::int64_t K = w.dim(1), panel = ScaledFormat::panel_bytes(128, K);
         for (std::int64_t p = 0; p < w.dim(0) / 128; ++p)
           std::memset(static_cast<std::uint8_t*>(w.data) + p * panel + 128 * K, 0,
                       static_cast<std::size_t>(K / 128 * 4));
       }},
      {"a bias on activations", "down_proj.weight", activation,
       [](const Tensor& x) {
         // The largest magnitude of each group in every fourth channel.
         each_element(x, [](std::uint8_t q, std::int64_t k) { return k % 4 == 0 ? largest : q; });
       },
       nullptr},
      {"an outlier token", "down_proj.weight", activation,
       [](const Tensor& x) {
         for (std::int64_t g = 0; g < EightBitFault::num_scales(x); ++g)
           EightBitFault::scales(x, x.dim(0) / 2)[g] *= 1e4F;
       },
       nullptr},
      {"gradients x 1e-6", "down_proj.weight", gradient,
       [](const Tensor& x) { each_scale(x, [](float s) { return s * 1e-6F; }); }, nullptr},
      {"gradients' scales underflow", "o_proj.weight", gradient,
       [](const Tensor& x) { each_scale(x, [](float) { return 0.0F; }); }, nullptr},
      {"a bit of the weight's exponents", "o_proj.weight", activation, nullptr,
       [](const Tensor& w) {
         const std::int64_t K = w.dim(1), panel = ScaledFormat::panel_bytes(128, K);
         for (std::int64_t p = 0; p < w.dim(0) / 128; ++p)
           for (std::int64_t i = 0; i < 128 * K; ++i) static_cast<std::uint8_t*>(w.data)[p * panel + i] |= 0x10;
       }},
      {"signs are lost", "down_proj.weight", activation,
       [](const Tensor& x) { each_element(x, [](std::uint8_t q, std::int64_t) -> std::uint8_t { return q & 0x7f; }); },
       nullptr},
  };
}

/// None of the ten: the next loss is not finite.
inline EightBitFault::Kind not_finite_fault() {
  constexpr std::uint8_t nan = 0x7f;
  return {"a NaN", "o_proj.weight", OperandRole::activation,
          [](const Tensor& x) { EightBitFault::elements(x, 0)[0] = nan; }, nullptr};
}

}  // namespace fourmi::testing
