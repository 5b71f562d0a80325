// What must hold between the keys of `model`, and the defaults that depend on other keys.
#include "framework/recipe/reading.h"

namespace fourmi::recipe {

void resolve_defaults(Reading& reading) {
  Recipe& r = reading.recipe;
  ModelSection& m = r.model;
  if (!reading.given("run.directory")) r.run.directory = "runs/" + r.run.name;
  const bool softmax = reading.family == kV2 || reading.family == kQwen3;
  if (!reading.given("model.scoring_func") && softmax) m.scoring_func = "softmax";
  if (!reading.given("model.topk_method") && softmax) m.topk_method = "greedy";
  if (!reading.given("model.num_key_value_heads")) m.num_key_value_heads = m.num_attention_heads;
  if (!reading.given("loss.router_bias_rate") && m.topk_method != "noaux_tc") r.loss.router_bias_rate = {{{0, 0.0}}};
  if (!reading.given("evaluation.at_end")) r.evaluation.at_end = r.data.holdout > 0 || !r.data.validation.empty();
  const bool decays = r.schedule.name == "linear" || r.schedule.name == "cosine";
  const bool starts = reading.given("schedule.decay_start_step") || reading.given("schedule.decay_start_tokens");
  if (decays && !starts) r.schedule.decay_start_step = r.schedule.warmup_steps;
}

namespace {

class ModelChecks {
 public:
  ModelChecks(const Reading& reading, Issues& issues) : reading_(reading), m_(reading.recipe.model), issues_(issues) {}

  void run() {
    layers();
    heads();
    experts();
    groups();
    positions();
    vocabulary();
  }

 private:
  bool good(std::initializer_list<const char*> keys) const {
    for (const char* key : keys) {
      if (!reading_.good(std::string("model.") + key)) return false;
    }
    return true;
  }
  void refuse(const std::string& key, std::string found, std::string expected, std::string remedy = {}) {
    issues_.add(reading_.place("model." + key), std::move(found), std::move(expected), std::move(remedy));
  }
  bool deepseek() const { return (reading_.family & kDeepseek) != 0; }

  void layers() {
    if (deepseek() && good({"first_k_dense_replace", "num_hidden_layers"}) &&
        m_.first_k_dense_replace > m_.num_hidden_layers) {
      refuse("first_k_dense_replace", fmt::format("found {} as `first_k_dense_replace`", m_.first_k_dense_replace),
             fmt::format("expected at most the {} blocks of `num_hidden_layers`", m_.num_hidden_layers));
    }
  }

  void heads() {
    const auto even = [&](const std::string& key, std::int64_t size) {
      if (size % 2 != 0) {
        refuse(key, fmt::format("found {} as `{}`", size, key),
               "expected an even number, since rotary channels go in pairs");
      }
    };
    if (deepseek() && good({"qk_rope_head_dim"})) even("qk_rope_head_dim", m_.qk_rope_head_dim);
    if (!deepseek() && good({"head_dim"})) even("head_dim", m_.head_dim);
    if (!good({"num_attention_heads", "num_key_value_heads"})) return;
    const std::int64_t queries = m_.num_attention_heads, keys = m_.num_key_value_heads;
    const std::string found = fmt::format("found {} as `num_key_value_heads`", keys);
    if (deepseek() && keys != queries) {
      refuse("num_key_value_heads", found,
             fmt::format("expected {}, as many as `num_attention_heads`: latent attention has one for each", queries));
    } else if (!deepseek() && queries % keys != 0) {
      refuse("num_key_value_heads", found, fmt::format("expected a divisor of the {} `num_attention_heads`", queries));
    }
  }

  std::string experts_key() const { return deepseek() ? "n_routed_experts" : "num_experts"; }

  void experts() {
    const std::string key = experts_key();
    if (good({"num_experts_per_tok", key.c_str()}) && m_.num_experts_per_tok > m_.n_routed_experts) {
      refuse("num_experts_per_tok", fmt::format("found {} as `num_experts_per_tok`", m_.num_experts_per_tok),
             fmt::format("expected at most the {} experts of `{}`", m_.n_routed_experts, key));
    }
  }

  void groups() {
    if (!deepseek() || !good({"n_group", "topk_group", "n_routed_experts", "num_experts_per_tok", "topk_method"}))
      return;
    const std::int64_t experts = m_.n_routed_experts, groups = m_.n_group;
    if (experts % groups != 0) {
      return refuse("n_group", fmt::format("found {} as `n_group`", groups),
                    fmt::format("expected a divisor of the {} `n_routed_experts`", experts));
    }
    if (m_.topk_group > groups) {
      return refuse("topk_group", fmt::format("found {} as `topk_group`", m_.topk_group),
                    fmt::format("expected at most the {} groups of `n_group`", groups));
    }
    const std::int64_t kept = m_.topk_group * (experts / groups);
    if (m_.num_experts_per_tok <= experts && m_.num_experts_per_tok > kept) {
      refuse("topk_group",
             fmt::format("found {} groups of {} experts kept for each token", m_.topk_group, experts / groups),
             fmt::format("expected room for the {} experts of `num_experts_per_tok`", m_.num_experts_per_tok));
    }
    if (m_.topk_method == "noaux_tc" && groups > 1 && experts / groups < 2) {
      refuse("n_group", fmt::format("found {} groups of one expert", groups),
             "expected at least two experts in a group, since noaux_tc ranks groups by their best two");
    }
    if (m_.topk_method == "greedy" && m_.topk_group < groups) {
      refuse("topk_group", fmt::format("found {} of {} groups kept with topk_method greedy", m_.topk_group, groups),
             "expected all groups, since greedy knows no groups",
             "Set `topk_method` to group_limited_greedy or noaux_tc");
    }
  }

  void positions() {
    if (!good({"max_position_embeddings", "rope_scaling", "rope_scaling.factor",
               "rope_scaling.original_max_position_embeddings"}) ||
        !reading_.good("data.sequence_length")) {
      return;
    }
    double longest = static_cast<double>(m_.max_position_embeddings);
    if (m_.rope_scaling) {
      const RopeScaling& yarn = *m_.rope_scaling;
      longest = std::max(longest, yarn.factor * static_cast<double>(yarn.original_max_position_embeddings));
    }
    const std::int64_t length = reading_.recipe.data.sequence_length;
    if (static_cast<double>(length) <= longest) return;
    issues_.add(reading_.place("data.sequence_length"), fmt::format("found {} as `sequence_length`", length),
                fmt::format("expected at most {:.0f}, the model's `max_position_embeddings`{}", longest,
                            m_.rope_scaling ? " with its rope_scaling" : ""));
  }

  void vocabulary() {
    if (!good({"vocab_size"}) || m_.vocab_size >= 257) return;
    const auto reads_text = [](const std::vector<DataSource>& sources) {
      for (const DataSource& source : sources) {
        if (source.format == "text") return true;
      }
      return false;
    };
    if (!reads_text(reading_.recipe.data.train) && !reads_text(reading_.recipe.data.validation)) return;
    refuse("vocab_size", fmt::format("found {} as `vocab_size`", m_.vocab_size),
           "expected at least 257 for the tokenizer `bytes`: 256 bytes and the end of a document");
  }

  const Reading& reading_;
  const ModelSection& m_;
  Issues& issues_;
};

}  // namespace

void check_model(const Reading& reading, Issues& issues) {
  if (reading.family != 0) ModelChecks(reading, issues).run();
}

}  // namespace fourmi::recipe
