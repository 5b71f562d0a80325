// The keys of loss, precision, optimizer and schedule.
#include "framework/recipe/access.h"

namespace fourmi::recipe {
namespace {

constexpr double kMostHorizon = 9e15;

void add_loss(std::vector<Field>& table) {
  table.push_back({.path = "loss",
                   .type = Type::section,
                   .meaning = "What config.json has no key for: weights beside the main next-token loss."});
  table.push_back(bind({.path = "loss.mtp_weight",
                        .type = Type::stepped,
                        .meaning = "Weight of the multi-token prediction loss; no effect without such a layer.",
                        .least = 0,
                        .most = 1e3,
                        .foreign = {"mtp_loss_scaling_factor", "mtp_loss_weight", "mtp_lambda"}},
                       FOURMI_AT(loss.mtp_weight)));
  table.push_back(
      bind({.path = "loss.balance_weight",
            .type = Type::stepped,
            .meaning =
                "Weight of the sequence-wise balance loss of the experts (DeepSeek-V3 report, eq. 17-20); every family "
                "trains "
                "with this one, also where config.json names a coefficient for another formula (router_aux_loss_coef).",
            .least = 0,
            .most = 1e3,
            .foreign = {"aux_loss_alpha", "router_aux_loss_coef", "moe_aux_loss_coeff", "moe_aux_loss_coef"}},
           FOURMI_AT(loss.balance_weight)));
  table.push_back(bind({.path = "loss.router_bias_rate",
                        .type = Type::stepped,
                        .meaning = "How far a step moves an expert's correction bias (balance without a loss); only "
                                   "with topk_method noaux_tc.",
                        .least = 0,
                        .most = 1e3,
                        .default_text = "0.001 with topk_method noaux_tc, else 0",
                        .foreign = {"moe_router_bias_update_rate", "bias_update_speed", "load_balance_coeff"}},
                       FOURMI_AT(loss.router_bias_rate)));
}

void add_optimizer(std::vector<Field>& table) {
  table.push_back({.path = "optimizer", .type = Type::section, .meaning = "How gradients change the weights."});
  table.push_back(bind({.path = "optimizer.name",
                        .type = Type::text,
                        .meaning = "AdamW with decoupled weight decay.",
                        .choices = {"adamw"},
                        .foreign = {"optim", "optimizer_type"}},
                       FOURMI_AT(optimizer.name)));
  table.push_back(bind({.path = "optimizer.learning_rate",
                        .type = Type::number,
                        .meaning = "The highest learning rate; the schedule scales it.",
                        .least = 0,
                        .most = 1e3,
                        .foreign = {"lr", "max_lr", "peak_lr", "base_lr"}},
                       FOURMI_AT(optimizer.learning_rate)));
  Field betas{.path = "optimizer.betas",
              .type = Type::betas,
              .meaning = "Decay of the first and second moment per step.",
              .least = 0,
              .most = 1,
              .default_text = "[0.9, 0.95]",
              .foreign = {"adam_beta1", "adam_beta2", "beta1", "beta2", "adam_betas"}};
  betas.get = [](const Recipe& r, std::size_t) -> Value {
    return std::vector<double>{r.optimizer.beta1, r.optimizer.beta2};
  };
  betas.set = [](Recipe& r, std::size_t, const Value& value) {
    const std::vector<double>& pair = std::get<std::vector<double>>(value);
    r.optimizer.beta1 = pair.at(0);
    r.optimizer.beta2 = pair.at(1);
  };
  table.push_back(std::move(betas));
  table.push_back(bind({.path = "optimizer.epsilon",
                        .type = Type::number,
                        .meaning = "Added to the root of the second moment.",
                        .least = 0,
                        .most = 1,
                        .above_least = true,
                        .foreign = {"eps", "adam_epsilon", "adam_eps"}},
                       FOURMI_AT(optimizer.epsilon)));
  table.push_back(bind(
      {.path = "optimizer.weight_decay",
       .type = Type::number,
       .meaning = "Decoupled weight decay, scaled by the learning rate, of all matrices (embeddings, head and router "
                  "included); norms and biases have none.",
       .least = 0,
       .most = 1e3,
       .foreign = {"wd"}},
      FOURMI_AT(optimizer.weight_decay)));
  table.push_back(bind(
      {.path = "optimizer.clip_grad_norm",
       .type = Type::number,
       .meaning = "The global norm of the gradient is scaled down to this; 0: no clipping.",
       .least = 0,
       .most = 1e9,
       .foreign = {"max_grad_norm", "clip_grad", "grad_clip", "gradient_clip_val", "max_norm", "gradient_clipping"}},
      FOURMI_AT(optimizer.clip_grad_norm)));
}

/// The three positions of the schedule exist twice: counted in steps and in tokens.
void add_horizon(std::vector<Field>& table, const std::string& stem, bool tokens, double ScheduleSection::*member,
                 const std::string& meaning, std::vector<std::string> foreign) {
  const std::string unit = tokens ? "tokens" : "steps";
  const std::string leaf = stem + (tokens ? "_tokens" : stem == "warmup" ? "_steps" : "_step");
  Field field{.path = "schedule." + leaf,
              .type = Type::whole,
              .meaning = meaning,
              .unit = unit,
              .nullable = true,
              .least = 0,
              .most = kMostHorizon,
              .default_text = "0",
              .foreign = std::move(foreign),
              .instead_of = stem};
  if (stem == "decay_start") field.default_text = "the end of the warm-up (required with warmup-stable-decay)";
  if (stem == "decay_end")
    field.default_text = tokens ? "none (required unless constant)"
                                : "the end of `run.epochs` (required without these, unless constant)";
  const bool decay = stem != "warmup";
  field.get = [tokens, member, decay](const Recipe& r, std::size_t) -> Value {
    const ScheduleSection& s = r.schedule;
    if (s.in_tokens != tokens || (decay && s.name == "constant")) return {};
    // What is counted by the horizon has no number of its own.
    if (s.warmup_fraction && (!decay || (s.decay_start_step == 0 && s.name != "warmup-stable-decay"))) return {};
    if (member == &ScheduleSection::decay_end_step && s.decay_end_step == 0) return {};
    return static_cast<std::int64_t>(s.*member);
  };
  field.set = [tokens, member](Recipe& r, std::size_t, const Value& value) {
    if (std::holds_alternative<std::monostate>(value)) return;
    r.schedule.*member = static_cast<double>(std::get<std::int64_t>(value));
    r.schedule.in_tokens = tokens;
  };
  table.push_back(std::move(field));
}

void add_schedule(std::vector<Field>& table) {
  table.push_back(
      {.path = "schedule",
       .type = Type::section,
       .meaning = "The learning rate over the run. It has its own horizon: a longer run does not stretch it."});
  table.push_back(bind({.path = "schedule.name",
                        .type = Type::text,
                        .meaning = "Shape after the linear warm-up.",
                        .choices = {"constant", "linear", "cosine", "warmup-stable-decay"},
                        .foreign = {"lr_scheduler_type", "lr_decay_style", "lr_scheduler", "scheduler"}},
                       FOURMI_AT(schedule.name)));
  const std::string same = " All of the schedule counts steps, or all of it tokens.";
  for (const bool tokens : {false, true}) {
    add_horizon(
        table, "warmup", tokens, &ScheduleSection::warmup_steps,
        "The learning rate rises linearly from 0 until here." + same,
        tokens ? std::vector<std::string>{}
               : std::vector<std::string>{"lr_warmup_iters", "num_warmup_steps", "lr_warmup_steps", "warmup_iters"});
    add_horizon(table, "decay_start", tokens, &ScheduleSection::decay_start_step, "Here the decay begins." + same, {});
    add_horizon(table, "decay_end", tokens, &ScheduleSection::decay_end_step,
                "Here the decay ends; the final learning rate holds from here on." + same,
                tokens ? std::vector<std::string>{}
                       : std::vector<std::string>{"lr_decay_iters", "num_decay_steps", "lr_wsd_decay_iters"});
  }
  table.push_back(bind(
      {.path = "schedule.warmup_fraction",
       .type = Type::number,
       .meaning = "In place of `warmup_steps`: the share of the horizon over which the learning rate rises, rounded "
                  "up to steps. Needs `run.epochs`, or `horizon_steps`.",
       .unit = "share",
       .nullable = true,
       .least = 0,
       .most = 1,
       .default_text = "none",
       .foreign = {"warmup_ratio", "lr_warmup_fraction"},
       .instead_of = "warmup"},
      FOURMI_AT(schedule.warmup_fraction)));
  table.push_back(bind(
      {.path = "schedule.horizon_steps",
       .type = Type::whole,
       .meaning = "Steps that `warmup_fraction` is a share of, and where a decay without an end of its own ends. The "
                  "first launch finds it and the run keeps it, so more epochs do not stretch the schedule.",
       .unit = "steps",
       .nullable = true,
       .least = 1,
       .most = kMostHorizon,
       .default_text = "the steps of `run.epochs` at the first launch"},
      FOURMI_AT(schedule.horizon_steps)));
  table.push_back(bind({.path = "schedule.final_ratio",
                        .type = Type::number,
                        .meaning = "The final learning rate as a share of the highest.",
                        .least = 0,
                        .most = 1,
                        .foreign = {"min_lr_ratio", "min_lr", "min_lr_rate", "lr_min"}},
                       FOURMI_AT(schedule.final_ratio)));
}

constexpr std::pair<std::string_view, Compute> computes[] = {{"fp32", Compute::fp32},
                                                             {"bf16", Compute::bf16},
                                                             {"fp8-block", Compute::fp8_block},
                                                             {"fp8-tensor", Compute::fp8_tensor},
                                                             {"mxfp8", Compute::mxfp8}};

void add_precision(std::vector<Field>& table) {
  table.push_back({.path = "precision", .type = Type::section, .meaning = "Number formats."});
  Field compute{
      .path = "precision.compute",
      .type = Type::choice,
      .meaning =
          "Weights and activations in matrix products; sums, master weights and gradients are fp32. "
          "fp8-block: e4m3 in linear maps and experts, with a scale for each 1 x 128 of activations and each "
          "128 x 128 of weights; fp8-tensor: one for all that is quantised at once; mxfp8: one for each 1 x 32 "
          "(docs/precision.md). All else is bf16.",
      .choices = {"fp32", "bf16", "fp8-block", "fp8-tensor", "mxfp8"},
      .foreign = {"mixed_precision", "bf16", "fp16", "mixed_precision_param", "params_dtype"}};
  compute.get = [](const Recipe& r, std::size_t) -> Value {
    for (const auto& [name, value] : computes)
      if (value == r.precision.compute) return std::string(name);
    return std::string("fp64");
  };
  compute.set = [](Recipe& r, std::size_t, const Value& value) {
    for (const auto& [name, meant] : computes)
      if (name == std::get<std::string>(value)) r.precision.compute = meant;
  };
  table.push_back(std::move(compute));
  table.push_back(bind({.path = "precision.moments",
                        .type = Type::choice,
                        .meaning = "Storage of the optimizer's two moments.",
                        .choices = {"fp32", "bf16"},
                        .foreign = {"exp_avg_dtype", "exp_avg_sq_dtype"}},
                       FOURMI_AT(precision.moments)));
  table.push_back(
      bind({.path = "precision.dispatch",
            .type = Type::choice,
            .meaning = "Gradients on their way to the experts of their tokens: bf16 (what compute works in), or "
                       "fp8, e4m3 with scales, as DeepSeek-V3 does; then also where nothing travels. Tokens "
                       "travel as products read them.",
            .choices = {"bf16", "fp8"}},
           FOURMI_AT(precision.dispatch)));
  table.push_back(
      bind({.path = "precision.scale_format",
            .type = Type::choice,
            .meaning = "Scales of fp8-block and fp8-tensor: powers of two, or fp32. mxfp8 has the first; no "
                       "effect where nothing has scales.",
            .choices = {"ue8m0", "fp32"},
            .foreign = {"scale_fmt"}},
           FOURMI_AT(precision.scale_format)));
  table.push_back(
      bind({.path = "precision.gradient_block",
            .type = Type::choice,
            .meaning = "What shares a scale of an output gradient in fp8-block: 128 channels of a token, or "
                       "of 128 tokens (to see that this is worse: DeepSeek-V3 report, appendix B.2); no "
                       "effect where nothing has scales.",
            .choices = {"1x128", "128x128"}},
           FOURMI_AT(precision.gradient_block)));
}

}  // namespace

void add_training_fields(std::vector<Field>& table) {
  add_loss(table);
  add_precision(table);
  add_optimizer(table);
  add_schedule(table);
}

}  // namespace fourmi::recipe
