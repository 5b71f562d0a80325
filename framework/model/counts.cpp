#include "framework/model/counts.h"

namespace fourmi {

namespace {
/// Of a causal row on average: T/2, or with a window of W < T keys the area of its band over T.
double keys_per_query(std::int64_t sequence_length, std::int64_t window) {
  const double T = static_cast<double>(sequence_length), W = static_cast<double>(window);
  return window == 0 || window >= sequence_length ? T / 2 : W - W * W / (2 * T);
}
}  // namespace

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
    const double share =
        p.routed_expert ? static_cast<double>(m.num_experts_per_tok) / static_cast<double>(m.n_routed_experts) : 1;
    double& products = p.routed_expert ? (p.mtp ? mtp_experts : main_experts) : (p.mtp ? mtp_products : main_products);
    if (product) products += static_cast<double>(n);
    if (product && p.set == ParameterSet::full_precision) c.flops_router += 6 * static_cast<double>(n);
    if (product && p.is_map) c.flops_scaled += 6 * share * static_cast<double>(n);
  }
  if (m.n_routed_experts > 0) {
    main_products +=
        main_experts * static_cast<double>(m.num_experts_per_tok) / static_cast<double>(m.n_routed_experts);
    mtp_products += mtp_experts * static_cast<double>(m.num_experts_per_tok) / static_cast<double>(m.n_routed_experts);
  }
  const std::int64_t expert_active = m.n_routed_experts ? expert_total / m.n_routed_experts * m.num_experts_per_tok : 0;
  c.parameters_active = c.parameters_total - expert_total + expert_active;

  const double head = static_cast<double>(m.vocab_size) * static_cast<double>(m.hidden_size);
  if (m.tie_word_embeddings) main_products += head;
  mtp_products += static_cast<double>(m.num_nextn_predict_layers) * head;
  const double pair =
      2 * static_cast<double>(m.num_attention_heads *
                              (score_head_dim(m) + value_head_dim(m)));  // operations on a query and a key
  const double full = pair * keys_per_query(sequence_length, 0);
  double attention = 0;
  for (std::int64_t l = 0; l < m.num_hidden_layers; ++l)
    attention += pair * keys_per_query(sequence_length, attention_window(m, l));
  const double attention_mtp = static_cast<double>(m.num_nextn_predict_layers) * full;
  c.flops_per_token = 3 * (2 * main_products + attention);
  c.flops_per_token_mtp = 3 * (2 * mtp_products + attention_mtp);
  return c;
}

}  // namespace fourmi
