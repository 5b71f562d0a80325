// The keys of model about the rotary embedding.
#include "framework/recipe/model_rows.h"

namespace fourmi::recipe {
namespace {

Field row(const std::string& name, Type type, const std::string& meaning, Families families) {
  return {.path = "model.rope_scaling." + name,
          .type = type,
          .meaning = meaning,
          .key_class = KeyClass::fixed,
          .families = families};
}

Field number(const std::string& name, const std::string& meaning, double RopeScaling::*member, double least,
             Families required) {
  Field field = row(name, Type::number, meaning, kAll);
  field.required = required, field.least = least, field.most = 1e6;
  return bind(
      std::move(field), [member](Recipe & r, std::size_t) -> auto& { return (*r.model.rope_scaling).*member; });
}

Field optional_number(const std::string& name, const std::string& meaning, std::optional<double> RopeScaling::*member,
                      std::string shown_default) {
  Field field = row(name, Type::number, meaning, kGrouped);
  field.nullable = true, field.least = 0, field.most = 1e6, field.above_least = true,
  field.default_text = std::move(shown_default);
  return bind(
      std::move(field), [member](Recipe & r, std::size_t) -> auto& { return (*r.model.rope_scaling).*member; });
}

}  // namespace

void add_rope_rows(std::vector<Field>& table) {
  Field section{
      .path = "model.rope_scaling",
      .type = Type::section,
      .meaning =
          "A stretched rotary embedding: YaRN, or with grouped-query attention Llama 3's rule; applied whenever given. "
          "Also accepted in config.json's newer spelling, rope_parameters.",
      .key_class = KeyClass::fixed,
      .nullable = true,
      .default_text = "null: none",
      .foreign = {"rope_parameters"}};
  section.get = [](const Recipe& r, std::size_t) -> Value { return r.model.rope_scaling ? Value(true) : Value{}; };
  section.set = [](Recipe& r, std::size_t, const Value& value) {
    r.model.rope_scaling.reset();
    if (!std::holds_alternative<std::monostate>(value)) r.model.rope_scaling.emplace();
  };
  table.push_back(std::move(section));
  Field type = row("type", Type::text, "The kind (also spelled rope_type); other kinds are not built.", kAll);
  type.required = kAll, type.choices = {"yarn", "llama3"}, type.foreign = {"rope_type"};
  table.push_back(bind(std::move(type), FOURMI_AT(model.rope_scaling->type)));
  table.push_back(number("factor", "How much longer sequences may be.", &RopeScaling::factor, 1, kAll));
  Field original =
      row("original_max_position_embeddings", Type::whole, "The longest sequence before stretching.", kAll);
  original.unit = "tokens", original.required = kDeepseek, original.least = 1, original.most = 1e9;
  original.default_text = "max_position_embeddings; required for deepseek";
  original.nullable = true;
  table.push_back(bind(std::move(original), FOURMI_AT(model.rope_scaling->original_max_position_embeddings)));
  table.push_back(
      number("beta_fast", "Of yarn: rotations above which a frequency stays.", &RopeScaling::beta_fast, 0, 0));
  table.push_back(number("beta_slow", "Of yarn: rotations below which a frequency is divided by the factor.",
                         &RopeScaling::beta_slow, 0, 0));
  table.push_back(number("mscale", "Of yarn: scale of the rotary embedding.", &RopeScaling::mscale, 0, 0));
  table.push_back(number("mscale_all_dim", "Of yarn: with latent attention also the scale of the softmax; 0: none.",
                         &RopeScaling::mscale_all_dim, 0, 0));
  table.push_back(optional_number("attention_factor", "Of yarn: what multiplies the rotary embedding.",
                                  &RopeScaling::attention_factor, "from factor, mscale and mscale_all_dim"));
  Field truncate = row("truncate", Type::boolean, "Of yarn: its ramp begins and ends at whole pairs.", kGrouped);
  table.push_back(bind(std::move(truncate), FOURMI_AT(model.rope_scaling->truncate)));
  table.push_back(optional_number(
      "low_freq_factor", "Of llama3, required there: wavelengths above the original length over this are stretched.",
      &RopeScaling::low_freq_factor, "none"));
  table.push_back(optional_number("high_freq_factor",
                                  "Of llama3, required there: wavelengths below the original length over this stay.",
                                  &RopeScaling::high_freq_factor, "none"));
  table.push_back(only_row("rope_interleave", Type::boolean, "Rotary pairs are neighbours.", kDeepseek, "true"));
}

}  // namespace fourmi::recipe
