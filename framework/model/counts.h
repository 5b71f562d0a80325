// What a model costs: parameters and floating-point operations, from the parameter table and the sizes.
#pragma once

#include "framework/model/parameters.h"

namespace fourmi {

struct ModelCounts {
  std::int64_t parameters_total = 0;   ///< without the MTP layers
  std::int64_t parameters_active = 0;  ///< a token's share of them: chosen experts only; embedding and head counted
  std::int64_t parameters_mtp = 0;
  double flops_per_token =
      0;  ///< forward and backward (3 x forward), causal attention at `sequence_length`, without MTP
  double flops_per_token_mtp = 0;  ///< the MTP layers' share, their use of the head included
  double flops_router =
      0;  ///< of both: the products that are formed in the accumulator dtype whatever the compute dtype
  double flops_scaled = 0;  ///< of both: linear maps and experts, which FP8 formats form in eight bits
};

/// Matrix products and attention only, two operations a multiply-add (ISCA'25 "Insights into DeepSeek-V3" counts
/// alike).
ModelCounts count_model(const ModelSection& model, const ParameterTable& table, std::int64_t sequence_length);

}  // namespace fourmi
