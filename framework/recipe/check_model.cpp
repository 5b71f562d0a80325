// What must hold between the keys of `model`, and the defaults that depend on other keys.
#include <algorithm>

#include "framework/recipe/reading.h"

namespace fourmi::recipe {

namespace {

void resolve_model(Reading& reading) {
  ModelSection& m = reading.recipe.model;
  const auto given = [&](const char* key) { return reading.given(std::string("model.") + key); };
  const Families family = reading.family;
  const bool softmax = family != kV3;
  if (!given("scoring_func") && softmax) m.scoring_func = "softmax";
  if (!given("topk_method") && softmax) m.topk_method = "greedy";
  if (!given("num_key_value_heads")) m.num_key_value_heads = m.num_attention_heads;
  if ((family & kGrouped) && !given("head_dim") && m.num_attention_heads > 0)
    m.head_dim = m.hidden_size / m.num_attention_heads;
  if (m.rope_scaling && m.rope_scaling->original_max_position_embeddings == 0)
    m.rope_scaling->original_max_position_embeddings = m.max_position_embeddings;
  if (family == kQwen3Moe && !given("max_window_layers")) m.max_window_layers = 0;
  if (family == kMixtral) {  // its feed-forward networks are all experts, and its window is everywhere
    if (!given("rms_norm_eps")) m.rms_norm_eps = 1e-5;
    if (!given("rope_theta")) m.rope_theta = 1e6;
    m.moe_intermediate_size = m.intermediate_size;
    m.use_sliding_window = m.sliding_window > 0;
    m.max_window_layers = 0;
  }
}

}  // namespace

void resolve_defaults(Reading& reading) {
  Recipe& r = reading.recipe;
  ModelSection& m = r.model;
  if (!reading.given("run.directory")) r.run.directory = "runs/" + r.run.name;
  resolve_model(reading);
  if (!reading.given("loss.router_bias_rate") && m.topk_method != "noaux_tc") r.loss.router_bias_rate = {{{0, 0.0}}};
  if (!reading.given("export.when") && !r.export_.path.empty()) r.export_.when = ExportWhen::end;
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
    windows();
    rotary();
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
    if (!good({"num_hidden_layers"})) return;
    if (deepseek() && good({"first_k_dense_replace"}) && m_.first_k_dense_replace > m_.num_hidden_layers) {
      refuse("first_k_dense_replace", fmt::format("found {} as `first_k_dense_replace`", m_.first_k_dense_replace),
             fmt::format("expected at most the {} blocks of `num_hidden_layers`", m_.num_hidden_layers));
    }
    for (const std::int64_t layer : m_.mlp_only_layers) {
      if (good({"mlp_only_layers"}) && layer >= m_.num_hidden_layers)
        refuse("mlp_only_layers", fmt::format("found {} in `mlp_only_layers`", layer),
               fmt::format("expected blocks from 0 to {}", m_.num_hidden_layers - 1));
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
    if (!deepseek() && good({"head_dim", "hidden_size", "num_attention_heads"})) {
      if (!reading_.given("model.head_dim") && m_.hidden_size % m_.num_attention_heads != 0)
        refuse("hidden_size", fmt::format("found no `head_dim`, and {} as `hidden_size`", m_.hidden_size),
               fmt::format("expected a multiple of the {} `num_attention_heads`", m_.num_attention_heads));
      else
        even("head_dim", m_.head_dim);
    }
    if (deepseek() && good({"attention_bias"}) && m_.attention_bias)
      refuse("attention_bias", "found true as `model.attention_bias`", "expected false", "Other values are not built");
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

  void windows() {
    if (!good({"use_sliding_window", "sliding_window", "max_window_layers", "layer_types", "num_hidden_layers"}))
      return;
    if (m_.use_sliding_window && m_.sliding_window == 0)
      refuse("use_sliding_window", "found true as `use_sliding_window`, and no `sliding_window`",
             "expected its size in tokens");
    if (reading_.family == kQwen3Moe && m_.use_sliding_window && m_.max_window_layers != 0)
      refuse("max_window_layers",
             fmt::format("found {} as `max_window_layers` with use_sliding_window", m_.max_window_layers),
             "expected 0: with qwen3_moe every block has the window");
    if (m_.layer_types.empty()) return;
    if (static_cast<std::int64_t>(m_.layer_types.size()) != m_.num_hidden_layers)
      refuse("layer_types", fmt::format("found {} words in `layer_types`", m_.layer_types.size()),
             fmt::format("expected one for each of the {} blocks", m_.num_hidden_layers));
    const bool slides =
        std::find(m_.layer_types.begin(), m_.layer_types.end(), "sliding_attention") != m_.layer_types.end();
    if (slides && !m_.use_sliding_window)
      refuse("layer_types", "found sliding_attention in `layer_types` without `use_sliding_window`",
             "expected full_attention everywhere", "Set `use_sliding_window: true` and `sliding_window`");
  }

  void rotary() {
    if (!m_.rope_scaling || !good({"rope_scaling", "rope_scaling.type"})) return;
    const RopeScaling &s = *m_.rope_scaling, plain;
    const auto given = [&](const char* key) { return reading_.given(std::string("model.rope_scaling.") + key); };
    if (s.type == "llama3") {
      if (deepseek())
        return refuse("rope_scaling.type", "found llama3 as `rope_scaling.type`", "expected yarn with this family");
      for (const char* key : {"low_freq_factor", "high_freq_factor"}) {
        if (!given(key)) refuse("rope_scaling", fmt::format("found no `{}`", key), "expected it with the type llama3");
      }
      if (s.low_freq_factor && s.high_freq_factor && *s.low_freq_factor >= *s.high_freq_factor)
        refuse("rope_scaling.high_freq_factor", fmt::format("found {} as `high_freq_factor`", *s.high_freq_factor),
               fmt::format("expected more than the {} of `low_freq_factor`", *s.low_freq_factor));
      if (s.beta_fast != plain.beta_fast || s.beta_slow != plain.beta_slow || s.mscale != plain.mscale ||
          s.mscale_all_dim != plain.mscale_all_dim || s.attention_factor || !s.truncate)
        refuse("rope_scaling", "found keys of yarn in `rope_scaling`", "expected keys of llama3");
    } else if (given("low_freq_factor") || given("high_freq_factor")) {
      refuse("rope_scaling", "found keys of llama3 in `rope_scaling`", "expected keys of yarn");
    }
  }

  std::string experts_key() const {
    return deepseek() ? "n_routed_experts" : reading_.family == kMixtral ? "num_local_experts" : "num_experts";
  }

  void experts() {
    if (!(reading_.family & kExperts)) return;
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
      const RopeScaling& scaling = *m_.rope_scaling;
      longest = std::max(longest, scaling.factor * static_cast<double>(scaling.original_max_position_embeddings));
    }
    const std::int64_t length = reading_.recipe.data.sequence_length;
    if (static_cast<double>(length) <= longest) return;
    issues_.add(reading_.place("data.sequence_length"), fmt::format("found {} as `sequence_length`", length),
                fmt::format("expected at most {:.0f}, the model's `max_position_embeddings`{}", longest,
                            m_.rope_scaling ? " with its rope_scaling" : ""));
  }

  void vocabulary() {
    const DataSection& data = reading_.recipe.data;
    if (data.tokenizer == "bytes") {
      for (const auto& [key, value] :
           {std::pair{"data.end_of_document", data.end_of_document}, {"data.tokenizer_sha256", data.tokenizer_sha256}})
        if (!value.empty())
          issues_.add(reading_.place(key), fmt::format("found `{}` with the tokenizer `bytes`", key),
                      "expected `data.tokenizer: PATH` beside it, or none");
    }
    if (!good({"vocab_size"}) || m_.vocab_size >= 257 || data.tokenizer != "bytes") return;
    const auto reads_text = [](const std::vector<DataSource>& sources) {
      for (const DataSource& source : sources) {
        if (source.format == "text" || source.format == "messages" || source.format == "prompt-completion") return true;
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
