#include "framework/model/counts.h"

namespace fourmi {

ModelCounts count_model(const ModelSection& m, const ParameterTable& table, std::int64_t sequence_length) {
  ModelCounts c;
  std::int64_t expert_total = 0;
  // Elements of matrices that a token is multiplied with: of all tokens' matrices, and of all experts together.
  double main_products = 0, mtp_products = 0, main_experts = 0, mtp_experts = 0;
  for (const Parameter& p : table.all()) {
    const std::int64_t n = p.shape.num_elements();
    (p.mtp ? c.parameters_mtp : c.parameters_total) += n;
    if (p.routed_expert && !p.mtp) expert_total += n;
    const bool product = p.shape.rank == 2 && p.name != "model.embed_tokens.weight";
    double& products = p.routed_expert ? (p.mtp ? mtp_experts : main_experts) : (p.mtp ? mtp_products : main_products);
    if (product) products += static_cast<double>(n);
    if (product && p.set == ParameterSet::full_precision) c.flops_router += 6 * static_cast<double>(n);
  }
  if (m.n_routed_experts > 0) {
    main_products += main_experts * static_cast<double>(m.num_experts_per_tok) / static_cast<double>(m.n_routed_experts);
    mtp_products += mtp_experts * static_cast<double>(m.num_experts_per_tok) / static_cast<double>(m.n_routed_experts);
  }
  const std::int64_t expert_active = m.n_routed_experts ? expert_total / m.n_routed_experts * m.num_experts_per_tok : 0;
  c.parameters_active = c.parameters_total - expert_total + expert_active;

  const double head = static_cast<double>(m.vocab_size) * static_cast<double>(m.hidden_size);
  if (m.tie_word_embeddings) main_products += head;
  mtp_products += static_cast<double>(m.num_nextn_predict_layers) * head;
  const bool mla = m.kv_lora_rank > 0;
  const std::int64_t query_key = mla ? m.qk_nope_head_dim + m.qk_rope_head_dim : m.head_dim;
  const std::int64_t value = mla ? m.v_head_dim : m.head_dim;
  // A causal row sees T/2 keys on average: T/2 * 2 operations * (score + value) a head.
  const double attention = static_cast<double>(sequence_length) * static_cast<double>(m.num_attention_heads * (query_key + value));
  c.flops_per_token = 3 * (2 * main_products + static_cast<double>(m.num_hidden_layers) * attention);
  c.flops_per_token_mtp = 3 * (2 * mtp_products + static_cast<double>(m.num_nextn_predict_layers) * attention);
  return c;
}

}  // namespace fourmi
