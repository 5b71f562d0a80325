// Sizes of the small recipe whose cuts fall on blocks of 128, for precisions of eight bits.
#pragma once

#include "tests/end_to_end/run.h"

namespace fourmi::testing {

inline const Words in_blocks{"model.hidden_size=128", "model.intermediate_size=128", "model.moe_intermediate_size=128",
                             "model.q_lora_rank=128", "model.qk_nope_head_dim=64",   "model.qk_rope_head_dim=64",
                             "model.v_head_dim=64"};

}  // namespace fourmi::testing
