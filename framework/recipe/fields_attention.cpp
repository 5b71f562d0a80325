// The keys of model about attention: latents and heads, biases, windows.
#include "framework/recipe/model_rows.h"

namespace fourmi::recipe {
namespace {

void add_latents(std::vector<Field>& table) {
  Field rank = optional_size_row("q_lora_rank", "Width of the queries' latent; null or 0: none.",
                                 &ModelSection::q_lora_rank, kDeepseek, 0, kMostSize, "null: none");
  rank.nullable = true;
  table.push_back(std::move(rank));
  table.push_back(
      size_row("kv_lora_rank", "Width of the latent of keys and values.", &ModelSection::kv_lora_rank, kDeepseek));
  table.push_back(size_row("qk_nope_head_dim", "Channels of a query or key head without rotary embedding.",
                           &ModelSection::qk_nope_head_dim, kDeepseek, 1, 65536));
  table.back().foreign = {"qk_head_dim"};
  table.push_back(size_row("qk_rope_head_dim", "Channels of a query or key head with rotary embedding; even.",
                           &ModelSection::qk_rope_head_dim, kDeepseek, 2, 65536));
  table.back().foreign = {"qk_pos_emb_head_dim"};
  table.push_back(size_row("v_head_dim", "Channels of a value head.", &ModelSection::v_head_dim, kDeepseek, 1, 65536));
}

void add_heads(std::vector<Field>& table) {
  table.push_back(optional_size_row("num_key_value_heads",
                                    "Key and value heads; divides the query heads. With multi-head "
                                    "latent attention: the query heads.",
                                    &ModelSection::num_key_value_heads, kAll, 1, 65536, "num_attention_heads"));
  table.back().required = kGrouped & ~kLlama;
  table.back().foreign = {"num_query_groups", "n_kv_heads", "num_kv_heads"};
  table.push_back(optional_size_row("head_dim", "Channels of a head; even.", &ModelSection::head_dim, kGrouped, 2,
                                    65536, "hidden_size / num_attention_heads"));
  table.back().required = kQwen3 | kQwen3Moe;
  table.back().nullable = true;
  table.back().foreign = {"kv_channels"};
  table.push_back(bind(
      {.path = "model.attention_bias",
       .type = Type::boolean,
       .meaning = "Biases in the attention's four projections; of deepseek only without. (qwen2 always has those of "
                  "queries, keys and values.)",
       .key_class = KeyClass::fixed,
       .families = kAll & ~(kQwen2 | kMixtral),
       .foreign = {"add_qkv_bias", "qkv_bias"}},
      FOURMI_AT(model.attention_bias)));
}

void add_windows(std::vector<Field>& table) {
  table.push_back(bind({.path = "model.use_sliding_window",
                        .type = Type::boolean,
                        .meaning = "Whether sliding_window is in force.",
                        .key_class = KeyClass::fixed,
                        .families = kQwens},
                       FOURMI_AT(model.use_sliding_window)));
  table.push_back(optional_size_row(
      "sliding_window",
      "A token sees so many tokens, itself among them; null or 0: all before it. With mixtral in every "
      "block, else where use_sliding_window and layer_types say so.",
      &ModelSection::sliding_window, kQwens | kMixtral, 0, 1e9, "null: none"));
  table.back().unit = "tokens";
  table.back().nullable = true;
  table.back().foreign = {"window_size", "attention_window"};
  table.push_back(optional_size_row("max_window_layers",
                                    "The first so many blocks have no window, unless layer_types is given.",
                                    &ModelSection::max_window_layers, kQwens, 0, 10000, "28; 0 for qwen3_moe"));
  table.push_back(bind({.path = "model.layer_types",
                        .type = Type::words,
                        .meaning = "One word a block: which have a window.",
                        .key_class = KeyClass::fixed,
                        .families = kQwen2 | kQwen3,
                        .nullable = true,
                        .choices = {"full_attention", "sliding_attention"},
                        .default_text = "by max_window_layers"},
                       FOURMI_AT(model.layer_types)));
}

}  // namespace

void add_attention_rows(std::vector<Field>& table) {
  add_latents(table);
  add_heads(table);
  add_windows(table);
}

}  // namespace fourmi::recipe
