// The keys of run, precision, parallel, evaluation, checkpoint and logging.
#include "framework/recipe/access.h"

namespace fourmi::recipe {
namespace {

constexpr double kMostSteps = 1e12, kMostTokens = 9e15;  // whole numbers that a double holds exactly

void add_parallel(std::vector<Field>& table) {
  table.push_back({.path = "parallel",
                   .type = Type::section,
                   .meaning = "How the ranks divide the work. Data "
                              "parallelism is what the other axes leave.",
                   .key_class = KeyClass::free});
  struct Axis {
    const char* name;
    const char* meaning;
    std::vector<std::string> foreign;
  };
  const std::vector<Axis> axes = {
      {"tensor",
       "Ranks that share one layer's heads and columns, and between layers the rows of a micro-batch (sequence "
       "parallelism): 1, 2, 4 or 8, as far as the model's sizes have whole parts.",
       {"tensor_model_parallel_size", "tensor_parallel_size", "tensor_parallel_degree", "tp", "tp_size"}},
      {"pipeline",
       "Ranks that hold consecutive layers.",
       {"pipeline_model_parallel_size", "pipeline_parallel_size", "pipeline_parallel_degree", "pp", "pp_size"}},
      {"context",
       "Ranks that share each sequence, some of its tokens each: 1, 2, 4 or 8, where sequence_length is a multiple of "
       "16.",
       {"context_parallel_size", "context_parallel_degree", "cp", "cp_size", "sequence_parallel_size"}},
      {"expert",
       "Ranks that share a layer's routed experts: a divisor of their number; in mode layout 1, 2, 4 or 8.",
       {"expert_model_parallel_size", "expert_parallel_size", "expert_parallel_degree", "ep", "ep_size"}},
      {"expert_tensor",
       "Ranks that share one routed expert's intermediate columns: 1, 2, 4 or 8, as far as they have whole parts.",
       {"expert_tensor_parallel_size", "expert_tensor_parallel_degree", "etp", "etp_size"}},
  };
  const auto place = [](std::size_t axis) {
    return [axis](Recipe& r, std::size_t) -> std::int64_t& {
      ParallelSection& p = r.parallel;
      std::int64_t* const sizes[] = {&p.tensor, &p.pipeline, &p.context, &p.expert, &p.expert_tensor};
      return *sizes[axis];
    };
  };
  for (std::size_t i = 0; i < axes.size(); ++i) {
    Field field = bind({.path = std::string("parallel.") + axes[i].name,
                        .type = Type::whole,
                        .meaning = axes[i].meaning,
                        .unit = "ranks",
                        .key_class = KeyClass::free,
                        .least = 1,
                        .most = 1e6,
                        .foreign = axes[i].foreign},
                       place(i));
    table.push_back(std::move(field));
  }
  table.push_back(bind({.path = "parallel.context_method",
                        .type = Type::choice,
                        .meaning = "How ranks that share sequences get at keys and values. all-gather: every rank has "
                                   "all of them. ring: they go from rank to rank, with less memory, and with parts of "
                                   "sequences that cost every rank the same; not with run.reproducibility layout.",
                        .key_class = KeyClass::free,
                        .choices = {"all-gather", "ring"},
                        .foreign = {"cp_comm_type", "context_parallel_rotate_method"}},
                       FOURMI_AT(parallel.context_method)));
  table.push_back(bind(
      {.path = "parallel.pipeline_schedule",
       .type = Type::text,
       .meaning = "What each rank of the pipeline does when (docs/parallelism.md compares them). dualpipe holds each "
                  "stage twice: it can be drawn by a dry run, not trained with.",
       .key_class = KeyClass::free,
       .choices = {"gpipe", "1f1b", "interleaved", "zb-h1", "zb-v", "dualpipe", "dualpipev"},
       .foreign = {"pipeline_parallel_schedule", "pp_schedule"}},
      FOURMI_AT(parallel.pipeline_schedule)));
  table.push_back(bind({.path = "parallel.virtual_stages",
                        .type = Type::whole,
                        .meaning = "Stages that a rank of the pipeline holds with interleaved; zb-v and dualpipev hold "
                                   "two, the others one, and take 1.",
                        .unit = "stages",
                        .key_class = KeyClass::free,
                        .least = 1,
                        .most = 1000,
                        .foreign = {"virtual_pipeline_model_parallel_size", "num_virtual_stages_per_rank", "vpp_size"}},
                       FOURMI_AT(parallel.virtual_stages)));
  table.push_back(bind({.path = "parallel.overlap_pairs",
                        .type = Type::choice,
                        .meaning = "Whether a forward and a backward of dualpipev or interleaved take turns phase by "
                                   "phase, so that one computes while rows of the other travel (docs/pairs.md); the "
                                   "same bits. auto: where rows travel to experts and nothing stands against it, which "
                                   "a dry run says; always: refused unless it can be; never: forward first.",
                        .key_class = KeyClass::free,
                        .choices = {"auto", "always", "never"},
                        .foreign = {"overlap_moe_expert_parallel_comm"}},
                       FOURMI_AT(parallel.overlap_pairs)));
  table.push_back(bind({.path = "parallel.stage_layers",
                        .type = Type::wholes,
                        .meaning = "Layers of each stage, in the model's order; without it they are balanced by their "
                                   "cost, with head and multi-token prediction counted for the last stage.",
                        .unit = "layers",
                        .key_class = KeyClass::free,
                        .nullable = true,
                        .default_text = "balanced",
                        .foreign = {"pipeline_model_parallel_layout", "pipeline_layout"}},
                       FOURMI_AT(parallel.stage_layers)));
  table.push_back(bind({.path = "parallel.zero",
                        .type = Type::whole,
                        .meaning = "ZeRO level: what the ranks that hold the same parameters divide among them. 1: "
                                   "optimizer state; 2: the layers' gradients too; 3: the layers' weights too.",
                        .key_class = KeyClass::free,
                        .choices = {"1", "2", "3"},
                        .foreign = {"zero_stage", "zero_optimization", "use_distributed_optimizer"}},
                       FOURMI_AT(parallel.zero)));
  table.push_back(bind({.path = "parallel.data",
                        .type = Type::whole,
                        .meaning = "An assertion: refused unless the ranks and the other axes leave this many.",
                        .unit = "ranks",
                        .key_class = KeyClass::free,
                        .nullable = true,
                        .least = 1,
                        .most = 1e6,
                        .foreign = {"data_parallel_size", "data_parallel_degree", "dp", "dp_size",
                                    "data_parallel_shard_degree", "data_parallel_replicate_degree"}},
                       FOURMI_AT(parallel.data)));
}

void add_run(std::vector<Field>& table) {
  table.push_back({.path = "run",
                   .type = Type::section,
                   .meaning = "What the run is called, how long it is and where "
                              "it runs.",
                   .key_class = KeyClass::free});
  table.push_back(bind({.path = "run.name",
                        .type = Type::text,
                        .meaning = "Names the run and its default directory: letters, digits, `.`, `_` and `-`.",
                        .key_class = KeyClass::free,
                        .required = kAll,
                        .foreign = {"run_name", "experiment_name", "wandb_run_name", "exp_name"}},
                       FOURMI_AT(run.name)));
  table.push_back(bind({.path = "run.seed",
                        .type = Type::whole,
                        .meaning = "Key of every random number: initial weights, order of samples, samples.",
                        .key_class = KeyClass::fixed,
                        .least = 0,
                        .most = 9223372036854775807.0,
                        .foreign = {"random_seed", "rng_seed", "global_seed", "training_seed"}},
                       FOURMI_AT(run.seed)));
  table.push_back(bind({.path = "run.directory",
                        .type = Type::text,
                        .meaning = "Where the run keeps all it leaves; the same directory goes on with the same run.",
                        .key_class = KeyClass::free,
                        .default_text = "runs/{run.name}",
                        .foreign = {"output_dir", "save_dir", "dump_folder", "checkpoints_path"}},
                       FOURMI_AT(run.directory)));
  table.push_back(bind({.path = "run.device",
                        .type = Type::choice,
                        .meaning = "auto: GPUs if every rank has one, the CPU if none has.",
                        .key_class = KeyClass::free,
                        .choices = {"auto", "cpu", "cuda"},
                        .foreign = {"device_type", "accelerator", "use_cpu", "no_cuda"}},
                       FOURMI_AT(run.device)));
  table.push_back(bind({.path = "run.reproducibility",
                        .type = Type::choice,
                        .meaning = "none: fastest; run: the same launch gives the same bits; layout: every number of "
                                   "ranks gives the same bits.",
                        .choices = {"none", "run", "layout"},
                        .foreign = {"deterministic", "use_deterministic_algorithms", "full_determinism"}},
                       FOURMI_AT(run.reproducibility)));
  table.push_back(bind({.path = "run.threads",
                        .type = Type::whole,
                        .meaning = "Threads of each rank; 0: cores of the node divided by its ranks.",
                        .unit = "threads",
                        .key_class = KeyClass::free,
                        .least = 0,
                        .most = 4096,
                        .foreign = {"num_threads", "omp_num_threads"}},
                       FOURMI_AT(run.threads)));
  const std::string one_of = " Exactly one of `run.steps`, `run.tokens`, `run.epochs` is given.";
  table.push_back(bind({.path = "run.steps",
                        .type = Type::whole,
                        .meaning = "The run stops after this step." + one_of,
                        .unit = "steps",
                        .key_class = KeyClass::free,
                        .nullable = true,
                        .least = 1,
                        .most = kMostSteps,
                        .foreign = {"max_steps", "train_iters", "total_steps", "training_steps", "train_steps",
                                    "max_iters", "num_steps", "num_train_steps"},
                        .instead_of = "length"},
                       FOURMI_AT(run.steps)));
  table.push_back(bind({.path = "run.tokens",
                        .type = Type::whole,
                        .meaning = "The run stops after the first step that reaches this many input tokens." + one_of,
                        .unit = "tokens",
                        .key_class = KeyClass::free,
                        .nullable = true,
                        .least = 1,
                        .most = kMostTokens,
                        .foreign = {"max_tokens", "total_tokens", "train_tokens", "num_tokens"},
                        .instead_of = "length"},
                       FOURMI_AT(run.tokens)));
  table.push_back(bind({.path = "run.epochs",
                        .type = Type::number,
                        .meaning = "The run stops after this many passes over the training data." + one_of,
                        .unit = "passes",
                        .key_class = KeyClass::free,
                        .nullable = true,
                        .least = 0,
                        .most = 1e6,
                        .above_least = true,
                        .foreign = {"num_train_epochs", "num_epochs", "max_epochs", "epoch"},
                        .instead_of = "length"},
                       FOURMI_AT(run.epochs)));
  table.push_back(bind({.path = "run.time",
                        .type = Type::duration,
                        .meaning = "Stop early, with a checkpoint and exit status 6, after this long in one launch.",
                        .unit = "duration",
                        .key_class = KeyClass::free,
                        .nullable = true,
                        .least = 0,
                        .above_least = true,
                        .foreign = {"max_time", "exit_duration_in_mins", "time_limit"}},
                       FOURMI_AT(run.time_seconds)));
}

void add_intervals(std::vector<Field>& table) {
  table.push_back({.path = "evaluation",
                   .type = Type::section,
                   .meaning = "The loss on held-out data.",
                   .key_class = KeyClass::free});
  table.push_back(bind({.path = "evaluation.every",
                        .type = Type::whole,
                        .meaning = "Evaluate after every so many steps; 0: only at the end.",
                        .unit = "steps",
                        .key_class = KeyClass::free,
                        .least = 0,
                        .most = kMostSteps,
                        .foreign = {"eval_steps", "eval_interval", "eval_every", "val_check_interval", "eval_iters"}},
                       FOURMI_AT(evaluation.every)));
  table.push_back(bind({.path = "evaluation.sequences",
                        .type = Type::whole,
                        .meaning = "Held-out sequences of one evaluation; 0: all.",
                        .unit = "sequences",
                        .key_class = KeyClass::free,
                        .least = 0,
                        .most = kMostSteps,
                        .foreign = {"per_device_eval_batch_size", "eval_batch_size", "max_eval_samples"}},
                       FOURMI_AT(evaluation.sequences)));
  table.push_back(bind({.path = "evaluation.at_end",
                        .type = Type::boolean,
                        .meaning = "Evaluate after the last step.",
                        .key_class = KeyClass::free,
                        .default_text = "true with `data.validation`, else false"},
                       FOURMI_AT(evaluation.at_end)));
  table.push_back({.path = "checkpoint",
                   .type = Type::section,
                   .meaning = "When the state is saved, and what is kept.",
                   .key_class = KeyClass::free});
  Field every{.path = "checkpoint.every",
              .type = Type::steps_or_duration,
              .meaning = "Save after every so many steps, or after this long; 0: only at the end.",
              .unit = "steps or duration",
              .key_class = KeyClass::free,
              .least = 0,
              .most = kMostSteps,
              .foreign = {"save_steps", "save_interval", "checkpoint_interval", "save_every", "ckpt_interval"}};
  every.get = [](const Recipe& r, std::size_t) -> Value {
    return r.checkpoint.every_seconds > 0 ? Value(Seconds{r.checkpoint.every_seconds})
                                          : Value(r.checkpoint.every_steps);
  };
  every.set = [](Recipe& r, std::size_t, const Value& value) {
    const Seconds* seconds = std::get_if<Seconds>(&value);
    r.checkpoint.every_seconds = seconds ? seconds->value : 0;
    r.checkpoint.every_steps = seconds ? 0 : std::get<std::int64_t>(value);
  };
  table.push_back(std::move(every));
  table.push_back({.path = "checkpoint.keep",
                   .type = Type::section,
                   .meaning = "Which checkpoints stay on disk.",
                   .key_class = KeyClass::free});
  table.push_back(bind({.path = "checkpoint.keep.last",
                        .type = Type::whole,
                        .meaning = "The newest so many stay.",
                        .unit = "checkpoints",
                        .key_class = KeyClass::free,
                        .least = 1,
                        .most = 1e6,
                        .foreign = {"save_total_limit", "keep_latest_k", "most_recent_k"}},
                       FOURMI_AT(checkpoint.keep_last)));
  table.push_back(bind({.path = "checkpoint.keep.every_steps",
                        .type = Type::whole,
                        .meaning = "Checkpoints at multiples of this stay for good; 0: none.",
                        .unit = "steps",
                        .key_class = KeyClass::free,
                        .least = 0,
                        .most = kMostSteps},
                       FOURMI_AT(checkpoint.keep_every_steps)));
  table.push_back(bind({.path = "checkpoint.resume",
                        .type = Type::text,
                        .meaning = "auto: go on from the newest proven checkpoint in `run.directory`, if any; never: "
                                   "needs a directory without a run; a path: branch from that checkpoint.",
                        .key_class = KeyClass::free,
                        .foreign = {"resume_from_checkpoint", "load", "load_checkpoint", "resume_from", "load_path"}},
                       FOURMI_AT(checkpoint.resume)));
  table.push_back(bind({.path = "checkpoint.on_failure",
                        .type = Type::choice,
                        .meaning = "When a save fails: continue training on the older checkpoint, or stop.",
                        .key_class = KeyClass::free,
                        .choices = {"continue", "stop"}},
                       FOURMI_AT(checkpoint.stop_on_failure)));
  table.push_back(
      {.path = "logging", .type = Type::section, .meaning = "What is printed.", .key_class = KeyClass::free});
  table.push_back(bind({.path = "logging.every",
                        .type = Type::whole,
                        .meaning = "Print one line after every so many steps (metrics.jsonl has every step).",
                        .unit = "steps",
                        .key_class = KeyClass::free,
                        .least = 1,
                        .most = kMostSteps,
                        .foreign = {"logging_steps", "log_interval", "log_every_n_steps", "log_freq"}},
                       FOURMI_AT(logging.every)));
  table.push_back(
      bind({.path = "logging.tensorboard",
            .type = Type::boolean,
            .meaning = "Write `tensorboard/events.out.tfevents...` in the run's directory: losses of every "
                       "step, the rest every `logging.every` steps.",
            .key_class = KeyClass::free,
            .foreign = {"report_to", "tensorboard_dir", "tensorboard_log_dir", "enable_tensorboard", "logging_dir"}},
           FOURMI_AT(logging.tensorboard)));
  table.push_back(bind({.path = "logging.expert_load_every",
                        .type = Type::whole,
                        .meaning = "Write the load of each layer's experts over so many steps to `expert_load.jsonl`; "
                                   "0: never.",
                        .unit = "steps",
                        .key_class = KeyClass::free,
                        .least = 0,
                        .most = kMostSteps,
                        .foreign = {"moe_per_layer_logging", "track_moe_metrics"}},
                       FOURMI_AT(logging.expert_load_every)));
  Field trace{.path = "logging.trace_steps",
              .type = Type::first_last,
              .meaning =
                  "The first and the last step of which `traces/step-<N>.json`, a timeline of all ranks for Perfetto, "
                  "is written; []: none.",
              .unit = "steps",
              .key_class = KeyClass::free,
              .least = 1,
              .most = kMostSteps,
              .foreign = {"profile_step_start", "profile_step_end", "enable_profiling", "profile_freq", "profiler"}};
  trace.get = [](const Recipe& r, std::size_t) -> Value {
    if (r.logging.trace_last_step == 0) return std::vector<double>{};
    return std::vector<double>{static_cast<double>(r.logging.trace_first_step),
                               static_cast<double>(r.logging.trace_last_step)};
  };
  trace.set = [](Recipe& r, std::size_t, const Value& value) {
    const std::vector<double>& pair = std::get<std::vector<double>>(value);
    r.logging.trace_first_step = pair.empty() ? 0 : static_cast<std::int64_t>(pair.at(0));
    r.logging.trace_last_step = pair.empty() ? 0 : static_cast<std::int64_t>(pair.at(1));
  };
  table.push_back(std::move(trace));
}

}  // namespace

void add_run_fields(std::vector<Field>& table) {
  add_run(table);
  add_parallel(table);
  add_dispatch_fields(table);
  add_intervals(table);
}

}  // namespace fourmi::recipe
