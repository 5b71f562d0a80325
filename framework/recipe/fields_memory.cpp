// The keys of memory: what a rank keeps, and where.
#include "framework/recipe/access.h"

namespace fourmi::recipe {

void add_memory_fields(std::vector<Field>& table) {
  table.push_back({.path = "memory",
                   .type = Type::section,
                   .meaning = "What a rank keeps in memory. No choice here changes a bit of the results.",
                   .key_class = KeyClass::free});
  table.push_back(bind({.path = "memory.recompute",
                        .type = Type::choice,
                        .meaning = "Activations that are computed again in backward instead of kept. selective: norms, "
                                   "SwiGLU outputs and the inputs of attention (MLA's up-projections, rotary), cheap; "
                                   "full: all but each layer's input, for one more forward pass.",
                        .key_class = KeyClass::free,
                        .choices = {"none", "selective", "full"},
                        .foreign = {"gradient_checkpointing", "activation_checkpointing", "recompute_granularity",
                                    "recompute_activations", "activation_checkpoint_mode"}},
                       FOURMI_AT(memory.recompute)));
  table.push_back(
      bind({.path = "memory.offload_optimizer",
            .type = Type::boolean,
            .meaning = "Keep master weights and moments in host memory and bring them to the device panel "
                       "by panel in the optimizer's step. On the CPU both places are host memory.",
            .key_class = KeyClass::free,
            .foreign = {"optimizer_cpu_offload", "optimizer_offload", "offload_optimizer_device", "cpu_offload"}},
           FOURMI_AT(memory.offload_optimizer)));
}

}  // namespace fourmi::recipe
