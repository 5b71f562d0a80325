// A Llama-family GGUF file in Hugging Face's words: names, rows and config.json. Source: llama.cpp's
// convert_hf_to_gguf.py and gguf-py/gguf/tensor_mapping.py, whose mapping is taken back here.
//
// The rows of attn_q and attn_k are stored in another order: of a head of d rows, Hugging Face's row j * d/2 + i
// (j = 0, 1) is the file's 2 i + j, since ggml turns neighbours where Hugging Face turns halves.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/interop/gguf/header.h"

namespace fourmi::interop {

/// One of Hugging Face's tensors, or one expert's part of a tensor that the file holds of all experts.
struct LlamaTensor {
  std::string name;                 ///< model.layers.0.self_attn.q_proj.weight
  std::string stored_name;          ///< blk.0.attn_q.weight
  GgufType type = GgufType::f32;    ///< how it is stored
  std::vector<std::int64_t> shape;  ///< rows first; one or two dims
  std::int64_t begin = 0;           ///< byte in the file
  std::int64_t head_rows = 0;       ///< rows of a head whose rows are in the file's order; 0: in Hugging Face's
  std::int64_t rows() const { return shape[0]; }
  std::int64_t columns() const { return shape.size() == 2 ? shape[1] : 1; }
  /// Where the file has row `row`.
  std::int64_t stored_row(std::int64_t row) const;
};

/// All tensors, names ascending. Throws Error(input) naming every tensor that no model of the family has and every one
/// that is missing.
std::vector<LlamaTensor> llama_tensors(const GgufHeader& header);

/// config.json of the model: LlamaForCausalLM, or MixtralForCausalLM with experts. Throws Error(input) naming the key
/// for what fourmi would compute differently: another architecture, a scaled rotary embedding.
std::string llama_config_json(const GgufHeader& header);

}  // namespace fourmi::interop
