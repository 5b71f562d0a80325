// The keys of export: the model as a folder of Hugging Face's, written by the run.
#include "framework/recipe/access.h"

namespace fourmi::recipe {

void add_export_fields(std::vector<Field>& table) {
  Field section{.path = "export",
                .type = Type::section,
                .meaning =
                    "The model as a folder that Hugging Face's libraries load, written by the run itself "
                    "(interop.md).",
                .key_class = KeyClass::free};
  section.get = [](const Recipe& r, std::size_t) { return r.export_ == ExportSection{} ? Value{} : Value(true); };
  table.push_back(std::move(section));
  table.push_back(
      bind({.path = "export.path",
            .type = Type::text,
            .meaning = "The folder, which a later export of the same run replaces; with `when: checkpoints` "
                       "the folder that holds one `step-<8 digits>` for each checkpoint.",
            .key_class = KeyClass::free,
            .default_text = "none",
            .foreign = {"export_dir", "hf_output_dir", "hf_path", "save_hf_path"}},
           FOURMI_AT(export_.path)));
  table.push_back(
      bind({.path = "export.dtype",
            .type = Type::choice,
            .meaning = "Of the weights: bf16, fp8-block (linear maps as e4m3 with a scale for each block of "
                       "128 x 128) or fp32.",
            .key_class = KeyClass::free,
            .choices = {"bf16", "fp8-block", "fp32"},
            .foreign = {"export_dtype", "save_dtype"}},
           FOURMI_AT(export_.dtype)));
  table.push_back(bind({.path = "export.when",
                        .type = Type::choice,
                        .meaning = "end: when the target is reached, also by starting a finished run again; "
                                   "checkpoints: of every checkpoint that is kept, as soon as it is committed.",
                        .key_class = KeyClass::free,
                        .choices = {"never", "end", "checkpoints"},
                        .default_text = "end with `path`, else never",
                        .foreign = {"last_save_in_hf", "last_save_in_safetensors_format", "save_hf_interval"}},
                       FOURMI_AT(export_.when)));
}

}  // namespace fourmi::recipe
