// The keys of model: Hugging Face's config.json keys, by their names, per family.
#include "framework/recipe/model_rows.h"

namespace fourmi::recipe {
Field size_row(const std::string& name, const std::string& meaning, SizeMember member, Families families, double least,
               double most) {
  Field field{.path = "model." + name,
              .type = Type::whole,
              .meaning = meaning,
              .key_class = KeyClass::fixed,
              .families = families,
              .required = families,
              .least = least,
              .most = most};
  return bind(
      std::move(field), [member](Recipe & r, std::size_t) -> auto& { return r.model.*member; });
}

Field optional_size_row(const std::string& name, const std::string& meaning, SizeMember member, Families families,
                        double least, double most, std::string shown_default) {
  Field field = size_row(name, meaning, member, families, least, most);
  field.required = 0;
  field.default_text = std::move(shown_default);
  return field;
}

Field only_row(const std::string& name, Type type, const std::string& meaning, Families families, std::string value,
               bool nullable) {
  return {.path = "model." + name,
          .type = type,
          .meaning = meaning,
          .key_class = KeyClass::fixed,
          .families = families,
          .nullable = nullable,
          .choices = {value},
          .default_text = value};
}

namespace {

void add_common(std::vector<Field>& table) {
  const Families all = kAll;
  table.push_back({.path = "model", .type = Type::section, .key_class = KeyClass::fixed});
  table.back().meaning = "The architecture, in the words of Hugging Face's config.json of the same `model_type`.";
  table.push_back(bind({.path = "model.model_type",
                        .type = Type::text,
                        .meaning = "The family, by Hugging Face's name; it decides which keys are valid here.",
                        .key_class = KeyClass::fixed,
                        .required = all,
                        .choices = model_types(),
                        .foreign = {"architecture", "base_model", "model_name_or_path", "flavor"}},
                       FOURMI_AT(model.model_type)));
  table.push_back(
      bind({.path = "model.from",
            .type = Type::text,
            .meaning = "A run directory or checkpoint, a Hugging Face folder or a GGUF file whose weights a new run "
                       "begins with; all else begins anew. Without model_type and config the architecture is its own "
                       "(keys given here override it); else it must be the same.",
            .key_class = KeyClass::fixed,
            .default_text = "none",
            .foreign = {"init_from", "pretrained_model", "pretrained_checkpoint", "finetune", "warm_start"}},
           FOURMI_AT(model.from)));
  table.push_back(bind({.path = "model.config",
                        .type = Type::text,
                        .meaning = "A config.json to take these keys from, relative to the file that names it; keys "
                                   "given here override it.",
                        .key_class = KeyClass::fixed,
                        .default_text = "none"},
                       FOURMI_AT(model.config)));
  Field field =
      size_row("vocab_size", "Rows of the embedding and of the output head.", &ModelSection::vocab_size, all, 2);
  field.foreign = {"padded_vocab_size", "n_vocab"};
  table.push_back(std::move(field));
  field = size_row("hidden_size", "Width of the residual stream.", &ModelSection::hidden_size, all);
  field.foreign = {"d_model", "n_embd", "dim", "model_dim"};
  table.push_back(std::move(field));
  field = size_row("num_hidden_layers", "Blocks, without the multi-token prediction layer.",
                   &ModelSection::num_hidden_layers, all, 1, 10000);
  field.foreign = {"num_layers", "n_layers", "n_layer"};
  table.push_back(std::move(field));
  field =
      size_row("intermediate_size", "Width of the feed-forward network of dense blocks; of each expert with mixtral.",
               &ModelSection::intermediate_size, all);
  field.foreign = {"ffn_hidden_size", "ffn_dim", "inter_dim"};
  table.push_back(std::move(field));
  field = size_row("num_attention_heads", "Query heads.", &ModelSection::num_attention_heads, all, 1, 65536);
  field.foreign = {"n_heads", "n_head", "num_heads"};
  table.push_back(std::move(field));
  field = size_row("max_position_embeddings", "The longest sequence that the rotary embedding is meant for.",
                   &ModelSection::max_position_embeddings, all, 1, 1e9);
  field.unit = "tokens";
  field.foreign = {"n_positions", "max_position"};
  table.push_back(std::move(field));
  table.push_back(bind({.path = "model.rms_norm_eps",
                        .type = Type::number,
                        .meaning = "Added to the mean square in every RMSNorm.",
                        .key_class = KeyClass::fixed,
                        .least = 0,
                        .most = 1,
                        .above_least = true,
                        .default_text = "1e-05 for mixtral, else 1e-06",
                        .foreign = {"norm_eps", "norm_epsilon", "layernorm_epsilon", "layer_norm_eps"}},
                       FOURMI_AT(model.rms_norm_eps)));
  table.push_back(bind({.path = "model.rope_theta",
                        .type = Type::number,
                        .meaning = "Base of the rotary angles.",
                        .key_class = KeyClass::fixed,
                        .least = 1,
                        .most = 1e12,
                        .above_least = true,
                        .default_text = "1000000 for mixtral, else 10000",
                        .foreign = {"rotary_base", "rope_base"}},
                       FOURMI_AT(model.rope_theta)));
  table.push_back(bind({.path = "model.initializer_range",
                        .type = Type::number,
                        .meaning = "Standard deviation of the initial matrices.",
                        .key_class = KeyClass::fixed,
                        .least = 0,
                        .most = 10,
                        .above_least = true,
                        .foreign = {"init_method_std", "init_std"}},
                       FOURMI_AT(model.initializer_range)));
  table.push_back(bind({.path = "model.tie_word_embeddings",
                        .type = Type::boolean,
                        .meaning = "Whether embedding and output head are one tensor.",
                        .key_class = KeyClass::fixed,
                        .foreign = {"untie_embeddings_and_output_weights", "tie_embeddings"}},
                       FOURMI_AT(model.tie_word_embeddings)));
  table.push_back(only_row("hidden_act", Type::text, "Activation of the gated feed-forward networks.", all, "silu"));
  table.push_back(only_row("attention_dropout", Type::number, "Dropout of attention weights.", all, "0"));
  table.push_back(only_row("mlp_bias", Type::boolean, "Biases in the feed-forward networks.", kLlama | kV2, "false"));
}

}  // namespace

void add_model_fields(std::vector<Field>& table) {
  add_common(table);
  add_expert_rows(table);
  add_attention_rows(table);
  add_rope_rows(table);
}

}  // namespace fourmi::recipe
