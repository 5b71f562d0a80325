// Which tensor of a stored model becomes which parameter. The parameter table has Hugging Face's names and layouts, so
// a parameter is the tensor of its name; what is left are scales of FP8 blocks, second copies of what fourmi has once,
// and tables that follow from config.json.
#pragma once

#include <string>
#include <vector>

#include "framework/interop/stored_model.h"
#include "framework/model/parameters.h"

namespace fourmi::interop {

/// Rows and columns of an FP8 weight that share a scale (DeepSeek-V3).
inline constexpr std::int64_t scale_block = 128;
inline constexpr std::string_view scale_suffix = "_scale_inv";

struct Weight {
  const Parameter* parameter = nullptr;
  const WeightSource::Entry* stored = nullptr;
  const WeightSource::Entry* scale = nullptr;  ///< of F8_E4M3, else null
};

/// A tensor that must be equal to another: embedding and head once more in a multi-token-prediction layer, and a head
/// beside a tied embedding.
struct SecondCopy {
  const WeightSource::Entry* stored = nullptr;
  const WeightSource::Entry* of = nullptr;
};

struct WeightMap {
  std::vector<Weight> weights;  ///< one a parameter, in the table's order
  std::vector<SecondCopy> copies;
  std::vector<const WeightSource::Entry*> not_needed;  ///< angles of the rotary embedding, which config.json gives
};

/// The names of such copies in a model, and of what: (copy, original).
std::vector<std::pair<std::string, std::string>> second_copies(const ModelSection& model);
/// Shape of the scales of an FP8 weight.
Shape scale_shape(const Shape& weight);

/// Every tensor is accounted for. Throws Error(input) naming all that are missing, not expected, or of another shape or
/// type.
WeightMap match_weights(const ModelSection& model, const ParameterTable& table, const WeightSource& stored);

}  // namespace fourmi::interop
