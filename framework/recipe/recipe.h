// The recipe as plain structs: what a run does, and nothing else configures a run. Each field is a row of the field
// table (fields.cpp), which gives parser, checks, defaults, JSON Schema, `explain` and docs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace fourmi {

/// A value that may change during a run: steps over tokens, [[tokens, value], ...]; one entry at 0 if constant.
struct Stepped {
  std::vector<std::pair<double, double>> steps;  ///< ascending tokens, the first at 0; empty: 0 always
  double at(double tokens) const;
  bool operator==(const Stepped&) const = default;
};

enum class Reproducibility { none, run, layout };
enum class DeviceChoice { automatic, cpu, cuda };

struct RunSection {
  std::string name;
  std::uint64_t seed = 1;
  std::string directory;  ///< default runs/<name>
  DeviceChoice device = DeviceChoice::automatic;
  Reproducibility reproducibility = Reproducibility::run;
  int threads = 0;  ///< per rank; 0: cores of the node / ranks on the node, at least 1
  std::optional<std::int64_t> steps;
  std::optional<double> tokens, epochs;  ///< exactly one of steps, tokens, epochs
  std::optional<double> time_seconds;    ///< run.time: stop (exit 6) after this much wall time in this launch
  bool operator==(const RunSection&) const = default;
};

/// Hugging Face's config.json keys, by their names.
struct RopeScaling {
  std::string type = "yarn";  ///< yarn llama3
  double factor = 1;
  std::int64_t original_max_position_embeddings = 0;                     ///< 0: the model's max_position_embeddings
  double beta_fast = 32, beta_slow = 1, mscale = 1, mscale_all_dim = 0;  // of yarn
  std::optional<double> attention_factor{};  ///< of yarn: absent: from factor, mscale, mscale_all_dim
  bool truncate = true;                      ///< of yarn: its ramp begins and ends at whole pairs
  std::optional<double> low_freq_factor{}, high_freq_factor{};  // of llama3
  bool operator==(const RopeScaling&) const = default;
};
struct ModelSection {
  std::string model_type;  ///< deepseek_v2 deepseek_v3 kimi_k2 qwen2 qwen3 qwen3_moe llama mixtral
  std::int64_t vocab_size = 0, hidden_size = 0, num_hidden_layers = 0, num_nextn_predict_layers = 0;
  std::int64_t first_k_dense_replace = 0, moe_layer_freq = 1, decoder_sparse_step = 1;
  std::vector<std::int64_t> mlp_only_layers;
  std::int64_t intermediate_size = 0, moe_intermediate_size = 0;
  std::int64_t n_routed_experts = 0, n_shared_experts = 0, num_experts_per_tok = 0;
  std::int64_t n_group = 1, topk_group = 1;
  std::string scoring_func = "sigmoid", topk_method = "noaux_tc";
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1.0;
  std::int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  std::int64_t q_lora_rank = 0, kv_lora_rank = 0, qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6, rope_theta = 10000.0, initializer_range = 0.02;
  std::optional<RopeScaling> rope_scaling;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  ///< on all four projections of attention
  bool use_sliding_window = false;
  std::int64_t sliding_window = 0,
               max_window_layers = 28;   ///< keys, 0: no window; first layer with a window, without layer_types
  std::vector<std::string> layer_types;  ///< one a layer: full_attention sliding_attention; empty: by max_window_layers
  std::string config;                    ///< path of a config.json that the keys above were taken from; empty: none
  std::string from;                      ///< run directory or checkpoint whose weights a new run takes; empty: none
  bool operator==(const ModelSection&) const = default;
};

struct LossSection {
  Stepped mtp_weight{{{0, 0.3}}}, balance_weight{{{0, 1e-4}}};
  Stepped router_bias_rate{{{0, 1e-3}}};  ///< 0 after reading where the router has no correction bias
  bool operator==(const LossSection&) const = default;
};

/// Sequences of a step: one number for the whole run, or a ramp over tokens.
struct BatchSize {
  Stepped over_tokens;
  BatchSize(std::int64_t sequences = 0) : over_tokens{{{0, static_cast<double>(sequences)}}} {}
  /// Of the step that begins when this many tokens have been read.
  std::int64_t at(std::int64_t tokens) const;
  std::int64_t most() const;
  bool operator==(const BatchSize&) const = default;
};

/// What the keys of a JSON line of conversations are called; empty: as usual, or none.
struct ColumnNames {
  std::string prompt, completion;              ///< of a pair
  std::string role, content;                   ///< of an entry of the list of messages
  std::string system, user, input, assistant;  ///< a line that is one exchange itself
  bool operator==(const ColumnNames&) const = default;
};
struct DataSource {
  std::string name, path, format = "text", field = "text", license, source;
  std::string sha256;                 ///< that the file must have; empty: not said
  std::string loss_on = "assistant";  ///< of conversations: assistant all last
  std::string reasoning;              ///< of conversations: keep last drop; empty: not said
  ColumnNames columns;                ///< of conversations
  double weight = 1;
  std::string reference;  ///< of prompts: the column of what an answer is held against; `field` is the prompt's
  bool operator==(const DataSource&) const = default;
};
struct DataSection {
  std::string tokenizer = "bytes";  ///< bytes, or a tokenizer.json or the folder of one
  std::string end_of_document;      ///< empty: the tokenizer's own (tokenizer/choose.h)
  std::string begin_of_text;        ///< empty: end_of_document; none; or a token as it is written
  std::string tokenizer_sha256;     ///< empty: not known yet
  std::string tokenizer_file;       ///< no key: where the file is read from, if not by `tokenizer` (a run's own copy)
  std::int64_t sequence_length = 0;
  BatchSize global_batch_size;
  std::int64_t micro_batch_size = 1;
  bool packing = true;
  std::string overlong = "error";       ///< of conversations, and without packing: error drop truncate
  std::string chat_template = "model";  ///< model, or a file
  std::string chat_date;                ///< YYYY-MM-DD that a template is told as today's; empty: none
  std::string model_from;               ///< no key: model.from, beside which a template may lie
  bool cross_document_attention = false;
  std::optional<std::int64_t> repeat;  ///< passes over any source; none: as many as the run takes
  std::vector<DataSource> train;
  std::vector<DataSource> validation;  ///< either these,
  double holdout = 0;                  ///< or this share of train
  bool operator==(const DataSection&) const = default;
};

enum class Compute {
  fp64,
  fp32,
  bf16,
  fp8_block,
  fp8_tensor,
  mxfp8
};  ///< fp64 exists for tests; recipes are refused it
constexpr bool is_fp8(Compute c) {
  return c >= Compute::fp8_block;
}
enum class Moments { fp32, bf16 };
enum class DispatchFormat { bf16, fp8 };  ///< bf16: what the rows have
enum class ScaleFormat { ue8m0, fp32 };   ///< of a precision whose elements share scales: powers of two, or any
enum class GradientBlock { row, square };
struct PrecisionSection {
  Compute compute = Compute::bf16;
  Moments moments = Moments::fp32;
  DispatchFormat dispatch = DispatchFormat::bf16;  ///< of gradients on their way to experts
  ScaleFormat scale_format = ScaleFormat::ue8m0;
  GradientBlock gradient_block = GradientBlock::row;  ///< of fp8-block
  bool operator==(const PrecisionSection&) const = default;
};

enum class ContextMethod { all_gather, ring };
enum class OverlapPairs { automatic, always, never };

struct ParallelSection {
  std::int64_t tensor = 1, pipeline = 1, context = 1, expert = 1, expert_tensor = 1;
  ContextMethod context_method = ContextMethod::all_gather;
  std::int64_t zero = 1;
  std::string pipeline_schedule = "1f1b";  ///< gpipe 1f1b interleaved zb-h1 zb-v dualpipe dualpipev
  std::int64_t virtual_stages = 1;         ///< stages a rank holds, for interleaved
  OverlapPairs overlap_pairs = OverlapPairs::automatic;
  std::vector<std::int64_t> stage_layers;          ///< layers of each stage; empty: balanced
  std::optional<std::int64_t> data;                ///< an assertion: refused if the rest does not leave this
  std::string dispatcher = "auto";                 ///< auto local all-to-all hierarchical device
  std::optional<std::int64_t> dispatch_node_size;  ///< ranks of the expert axis in a node
  std::optional<double> dispatch_bound;  ///< most rows that a rank is sent at a time, in multiples of the mean
  std::optional<std::int64_t> dispatch_multiprocessors;  ///< of a GPU, for the device dispatcher's kernels
  bool operator==(const ParallelSection&) const = default;
};

enum class Recompute {
  none,       ///< every activation that backward reads is kept
  selective,  ///< norms, SwiGLU outputs and attention's inputs are made again in backward
  full        ///< only each layer's input is kept
};
struct MemorySection {
  Recompute recompute = Recompute::none;
  bool offload_optimizer = false;  ///< masters and moments lie in host memory
  bool operator==(const MemorySection&) const = default;
};

struct OptimizerSection {
  std::string name = "adamw";
  double learning_rate = 3e-4, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1, clip_grad_norm = 1.0;
  bool operator==(const OptimizerSection&) const = default;
};
struct ScheduleSection {
  std::string name = "constant";                                      ///< constant cosine linear warmup-stable-decay
  double warmup_steps = 0, decay_start_step = 0, decay_end_step = 0;  ///< decay_end_step 0: horizon_steps
  bool in_tokens = false;  ///< the three above count tokens (keys warmup_tokens, decay_start_tokens, decay_end_tokens)
  double final_ratio = 0;
  std::optional<double> warmup_fraction;      ///< of horizon_steps, in place of warmup_steps
  std::optional<std::int64_t> horizon_steps;  ///< absent: the steps of run.epochs, once a first launch knows them
  /// Is something counted by the horizon?
  bool has_horizon() const {
    return warmup_fraction || (!in_tokens && decay_end_step == 0 && (name == "linear" || name == "cosine"));
  }
  bool operator==(const ScheduleSection&) const = default;
};

struct EvaluationSection {
  std::int64_t every = 0;      ///< steps; 0: never
  std::int64_t sequences = 0;  ///< per evaluation; 0: all
  bool at_end = true;
  bool operator==(const EvaluationSection&) const = default;
};
struct CheckpointSection {
  std::int64_t every_steps = 0;  ///< 0: only at the end
  double every_seconds = 0;      ///< when given as a duration
  std::int64_t keep_last = 3, keep_every_steps = 0;
  std::string resume = "auto";  ///< auto, never, or a path
  bool stop_on_failure = false;
  bool operator==(const CheckpointSection&) const = default;
};
enum class ExportWhen { never, end, checkpoints };
enum class ExportFormat { bf16, fp8_block, fp32 };
/// The model as a folder that Hugging Face's libraries load, by the run itself.
struct ExportSection {
  std::string path;  ///< empty: none
  ExportFormat dtype = ExportFormat::bf16;
  ExportWhen when = ExportWhen::never;  ///< after reading `end` with a path
  bool operator==(const ExportSection&) const = default;
};
/// Under which terms a teacher's texts may be used, as somebody read them.
struct TeacherTerms {
  std::string file, url;  ///< a saved copy; where it was
  std::vector<std::string> allows, obligations;
  bool operator==(const TeacherTerms&) const = default;
};
struct TeacherSection {
  std::string name, endpoint, model, api_key_file, license;
  std::string ca_file;  ///< certificates that the endpoint's must come from; empty: the system's
  TeacherTerms terms;
  // Of one whose logits are learned from: a MODEL, and how it works beside the student.
  std::string from;
  ParallelSection parallel;        ///< its own: tensor, pipeline, context, expert, expert_tensor, virtual_stages
  std::optional<Compute> compute;  ///< absent: the student's
  std::optional<std::int64_t> micro_batch_size;  ///< absent: the student's
  std::optional<ModelSection> section;  ///< no key: what `from` says, once it was opened (framework/train/teacher)
  bool operator==(const TeacherSection&) const = default;
};
/// What a teacher behind an endpoint is asked for, and what it may cost.
struct HarvestSection {
  std::vector<DataSource> prompts;
  std::string output;
  std::int64_t samples = 1;
  std::optional<double> temperature, top_p;
  std::optional<std::int64_t> max_tokens;
  std::int64_t concurrency = 8, retries = 10;
  double timeout_seconds = 600;
  bool keep_unfinished = false;
  std::vector<std::string> verify_command;
  double verify_timeout_seconds = 60;
  std::optional<std::int64_t> verify_keep;
  std::optional<double> cost, price_input, price_output;
  std::string currency;
  bool operator==(const HarvestSection&) const = default;
};
/// How far the student's distribution is from the teacher's (kernels/ops/divergence.h).
enum class DistillObjective { forward_kl, reverse_kl, jensen_shannon };
/// Texts that the student writes itself and learns on (framework/train/on_policy).
struct OnPolicySection {
  double rate = 0.5;  ///< share of the samples
  double temperature = 1, top_p = 1;
  std::optional<std::int64_t> prompt_tokens;   ///< of a sample without a mask; absent: half a sequence
  std::optional<std::int64_t> max_new_tokens;  ///< absent: to the end of the sequence
  std::int64_t texts = 8;                      ///< that a rank writes at once
  bool operator==(const OnPolicySection&) const = default;
};
/// Tokens of a position that a cache may keep, and how many it does where the recipe does not say.
inline constexpr std::int64_t most_cache_entries = 4096, default_top_k = 64;
struct DistillSection {
  std::string mode;  ///< text, online, on-policy, offline; empty: no distillation
  DistillObjective objective = DistillObjective::forward_kl;
  double beta = 0.5, temperature = 1;
  Stepped weight{{{0, 1.0}}};  ///< the divergence's share of the loss, beside cross-entropy
  TeacherSection teacher;
  // Of offline: the folder of a cache (framework/capture), and what it keeps of a position: the likeliest tokens, or a
  // sample of so many. Neither: the default_top_k likeliest.
  std::string cache;
  std::optional<std::int64_t> top_k, samples;
  /// Is there a teacher in the job?
  bool online() const { return mode == "online" || student_writes(); }
  OnPolicySection on_policy;
  bool student_writes() const { return mode == "on-policy"; }
  bool offline() const { return mode == "offline"; }
  bool learns_logits() const { return online() || offline(); }
  HarvestSection harvest;
  bool allow_incomplete = false;  ///< train on a harvest that has not come to its end
  bool operator==(const DistillSection&) const = default;
};
/// What the sources of data.train must bring, and under which terms they may not stand.
struct LedgerSection {
  std::vector<std::string> require;  ///< license, digest, source
  std::vector<std::string> deny;     ///< SPDX identifiers, LicenseRef-..., or tags (license.h)
  bool operator==(const LedgerSection&) const = default;
};
/// What the run may use up, over all its launches; a device hour is an hour of one rank.
struct BudgetSection {
  std::optional<double> gpu_hours, cost, price_per_gpu_hour;
  std::string currency;  ///< ISO 4217; empty: not said
  bool operator==(const BudgetSection&) const = default;
};
/// What is done about a bad step: nothing but saying it, no update, back to the last checkpoint with other data, or
/// exit 5.
enum class GuardAction { stop, skip, rollback, none };
enum class PrecisionAction { promote, warn };
struct GuardSection {
  GuardAction non_finite = GuardAction::stop;  ///< none is refused
  GuardAction spike_action = GuardAction::none;
  double spike_z = 8;
  std::int64_t spike_window = 200;  ///< good steps
  double hang_seconds = 600;        ///< 0: hangs are not looked for
  // Of eight bits; the gaps are relative (docs/precision.md "The guard").
  PrecisionAction precision_action = PrecisionAction::promote;
  std::int64_t precision_every = 100;  ///< steps; 0: never
  double precision_operand_error = 0.1, precision_loss_gap = 0.05, precision_gradient_gap = 4;
  std::int64_t max_rollbacks = 3;
  bool check_calls = false;  ///< against their order (parallel/order); builds for debugging always do
  bool operator==(const GuardSection&) const = default;
};
struct LoggingSection {
  std::int64_t every = 10;
  bool tensorboard = true;
  std::int64_t expert_load_every = 100;                    ///< steps of a window; 0: never
  std::int64_t trace_first_step = 0, trace_last_step = 0;  ///< logging.trace_steps; 0: none
  bool operator==(const LoggingSection&) const = default;
};

struct Recipe {
  RunSection run;
  ModelSection model;
  LossSection loss;
  DataSection data;
  PrecisionSection precision;
  ParallelSection parallel;
  MemorySection memory;
  OptimizerSection optimizer;
  ScheduleSection schedule;
  EvaluationSection evaluation;
  CheckpointSection checkpoint;
  ExportSection export_;  // `export` is a word of the language
  DistillSection distill;
  LedgerSection ledger;
  BudgetSection budget;
  GuardSection guard;
  LoggingSection logging;
  bool operator==(const Recipe&) const = default;
};

}  // namespace fourmi
