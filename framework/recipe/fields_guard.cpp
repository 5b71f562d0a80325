// The keys of guard: what becomes of a bad step, of a hang.
#include "framework/recipe/access.h"

namespace fourmi::recipe {

void add_guard_fields(std::vector<Field>& table) {
  table.push_back({.path = "guard",
                   .type = Type::section,
                   .meaning = "What is done about bad steps and hangs (guard.md).",
                   .key_class = KeyClass::free});
  table.push_back(bind(
      {.path = "guard.non_finite",
       .type = Type::choice,
       .meaning =
           "A loss or a gradient that is no finite number: stop (exit status 5, with tensor, layer and rank), skip the "
           "step's update, or roll back to the last good checkpoint and go on with other data.",
       .key_class = KeyClass::free,
       .choices = {"stop", "skip", "rollback"},
       .foreign = {"check_for_nan_in_loss_and_grad", "rerun_mode", "error_injection_type"}},
      FOURMI_AT(guard.non_finite)));
  table.push_back({.path = "guard.spike",
                   .type = Type::section,
                   .meaning = "A gradient norm or a loss far above those of the last steps.",
                   .key_class = KeyClass::free});
  table.push_back(
      bind({.path = "guard.spike.action",
            .type = Type::choice,
            .meaning = "What is done about a spike, before the step's update; none: it is said, and the step counts.",
            .key_class = KeyClass::free,
            .choices = {"stop", "skip", "rollback", "none"},
            .foreign = {"skip_loss_spikes", "loss_spike_action"}},
           FOURMI_AT(guard.spike_action)));
  table.push_back(bind(
      {.path = "guard.spike.z",
       .type = Type::number,
       .meaning =
           "A spike is so many robust standard deviations (1.4826 x the median absolute deviation) above the median.",
       .key_class = KeyClass::free,
       .least = 3,
       .most = 1e3,
       .foreign = {"spike_threshold", "loss_spike_threshold"}},
      FOURMI_AT(guard.spike_z)));
  table.push_back(bind(
      {.path = "guard.spike.window",
       .type = Type::whole,
       .meaning =
           "Good steps that the spread is taken from; in the first half as many of a run nothing counts as a spike.",
       .unit = "steps",
       .key_class = KeyClass::free,
       .least = 32,
       .most = 100000},
      FOURMI_AT(guard.spike_window)));
  table.push_back({.path = "guard.precision",
                   .type = Type::section,
                   .meaning = "In precisions of eight bits: loss and gradient against those of bf16 (precision.md).",
                   .key_class = KeyClass::free});
  table.push_back(
      bind({.path = "guard.precision.action",
            .type = Type::choice,
            .meaning = "Past a bound: the layers that are to blame work in bf16 from then on, or it is said.",
            .key_class = KeyClass::free,
            .choices = {"promote", "warn"}},
           FOURMI_AT(guard.precision_action)));
  table.push_back(bind({.path = "guard.precision.every",
                        .type = Type::whole,
                        .meaning = "Before the first and every so many steps micro-batches of the step are computed in "
                                   "bf16 too; 0: never, and no memory for layers in bf16.",
                        .unit = "steps",
                        .key_class = KeyClass::free,
                        .least = 0,
                        .most = 1e9},
                       FOURMI_AT(guard.precision_every)));
  table.push_back(bind({.path = "guard.precision.operand_error",
                        .type = Type::number,
                        .meaning = "Bound of |x - x as products read it| / |x| of any activation, gradient or weight.",
                        .key_class = KeyClass::free,
                        .least = 1e-6,
                        .most = 1e3},
                       FOURMI_AT(guard.precision_operand_error)));
  table.push_back(bind({.path = "guard.precision.loss_gap",
                        .type = Type::number,
                        .meaning = "Bound of |loss - bf16's| / bf16's.",
                        .key_class = KeyClass::free,
                        .least = 1e-6,
                        .most = 1e3},
                       FOURMI_AT(guard.precision_loss_gap)));
  table.push_back(bind({.path = "guard.precision.gradient_gap",
                        .type = Type::number,
                        .meaning = "Bound of |gradient - bf16's| / |bf16's| of linear maps and experts.",
                        .key_class = KeyClass::free,
                        .least = 1e-6,
                        .most = 1e3},
                       FOURMI_AT(guard.precision_gradient_gap)));
  table.push_back(bind({.path = "guard.hang",
                        .type = Type::duration,
                        .meaning = "Exit status 7, naming rank, group, call and who is missing, when no rank gets any "
                                   "further for so long; loading "
                                   "and saving may take ten times as long; 0s: never. Longer than a micro-batch takes.",
                        .unit = "duration",
                        .key_class = KeyClass::free,
                        .least = 0,
                        .foreign = {"distributed_timeout_minutes", "ddp_timeout", "nccl_timeout", "timeout"}},
                       FOURMI_AT(guard.hang_seconds)));
  table.push_back(bind({.path = "guard.max_rollbacks",
                        .type = Type::whole,
                        .meaning = "So many rollbacks in a run, over all its launches; the next bad step stops it.",
                        .unit = "rollbacks",
                        .key_class = KeyClass::free,
                        .least = 0,
                        .most = 1e6},
                       FOURMI_AT(guard.max_rollbacks)));
  table.push_back(bind({.path = "guard.check_calls",
                        .type = Type::boolean,
                        .meaning = "Each call of a group is held against the order that was proven before the first "
                                   "step; another one is exit status 1 at once, with both. Debug builds always do it.",
                        .key_class = KeyClass::free},
                       FOURMI_AT(guard.check_calls)));
}

}  // namespace fourmi::recipe
