// What must hold between the keys of the other sections, and what depends on the number of ranks.
#include <algorithm>

#include "framework/recipe/check_chat.h"
#include "framework/recipe/check_context.h"
#include "framework/recipe/check_expert.h"
#include "framework/recipe/check_pipeline.h"
#include "framework/recipe/check_precision.h"
#include "framework/recipe/check_schedule.h"
#include "framework/recipe/check_tensor.h"
#include "framework/recipe/read.h"
#include "framework/recipe/reading.h"
#include "framework/recipe/scalar.h"

namespace fourmi {

std::int64_t data_ranks(const ParallelSection& parallel, std::int64_t ranks) {
  const std::int64_t others = parallel.tensor * parallel.pipeline * parallel.context;
  return others > 0 && ranks % others == 0 ? ranks / others : 0;
}

double Stepped::at(double tokens) const {
  double value = 0;
  for (const auto& [from, next] : steps) {
    if (from <= tokens) value = next;
  }
  return value;
}

std::int64_t BatchSize::at(std::int64_t tokens) const {
  return static_cast<std::int64_t>(over_tokens.at(static_cast<double>(tokens)));
}

std::int64_t BatchSize::most() const {
  double most = 0;
  for (const auto& step : over_tokens.steps) most = std::max(most, step.second);
  return static_cast<std::int64_t>(most);
}

namespace recipe {
namespace {

/// The first size of the ramp that is no multiple of `portion`; 0: all are.
std::int64_t odd_size(const BatchSize& sizes, std::int64_t portion) {
  for (const auto& step : sizes.over_tokens.steps) {
    const auto size = static_cast<std::int64_t>(step.second);
    if (size % portion != 0) return size;
  }
  return 0;
}

class TrainingChecks {
 public:
  TrainingChecks(const Reading& reading, Issues& issues) : reading_(reading), r_(reading.recipe), issues_(issues) {}

  void run() {
    length();
    name();
    batch();
    sources("data.train", r_.data.train);
    sources("data.validation", r_.data.validation);
    evaluation();
    exports();
    router();
    schedule_issues(reading_, issues_);
    pipeline();
    precision();
    tensor();
    context();
    expert();
  }

 private:
  bool good(const std::string& key) const { return reading_.good(key); }
  void refuse(const std::string& key, std::string found, std::string expected, std::string remedy = {}) {
    issues_.add(reading_.place(key), std::move(found), std::move(expected), std::move(remedy));
  }

  void length() {
    std::vector<std::string> given;
    for (const char* key : {"run.steps", "run.tokens", "run.epochs"}) {
      if (!good(key)) return;
      if (reading_.given(key)) given.emplace_back(key);
    }
    const std::string expected = "expected exactly one of `run.steps`, `run.tokens`, `run.epochs`";
    if (given.empty() && reading_.given("run")) refuse("run", "found no length of the run", expected);
    if (given.size() > 1) refuse(given[1], fmt::format("found `{}` beside `{}`", given[1], given[0]), expected);
    const auto synthetic = [](const DataSource& source) { return source.format == "synthetic"; };
    if (given.size() == 1 && given[0] == "run.epochs" &&
        std::any_of(r_.data.train.begin(), r_.data.train.end(), synthetic)) {
      refuse("run.epochs", "found `run.epochs` with a synthetic source, which has no end",
             "expected `run.steps` or `run.tokens`");
    }
  }

  void name() {
    if (!good("run.name") || !reading_.given("run.name")) return;
    const std::string& name = r_.run.name;
    const bool plain = name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
                       std::string::npos;
    if (!plain || name.front() == '.' || name.size() > 200) {
      refuse("run.name", fmt::format("found the name \"{}\"", shown(name)),
             "expected letters, digits, `.`, `_` and `-`, not beginning with `.`, at most 200");
    }
  }

  void batch() {
    const DataSection& data = r_.data;
    if (good("data.global_batch_size") && good("data.micro_batch_size") &&
        odd_size(data.global_batch_size, data.micro_batch_size) != 0) {
      refuse("data.global_batch_size",
             fmt::format("found {} as `global_batch_size`", odd_size(data.global_batch_size, data.micro_batch_size)),
             fmt::format("expected a multiple of `micro_batch_size`, which is {}", data.micro_batch_size));
    }
    chat_issues(reading_, issues_);
    if (good("data.sequence_length") && good("run.reproducibility") && data.sequence_length % 16 != 0 &&
        r_.run.reproducibility == Reproducibility::layout) {
      refuse("data.sequence_length", fmt::format("found {} as `sequence_length`", data.sequence_length),
             "expected a multiple of 16 with `run.reproducibility` layout, which sums over 16 blocks of a sequence");
    }
  }

  void sources(const std::string& list, const std::vector<DataSource>& all) {
    std::unordered_map<std::string, std::size_t> seen;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const DataSource& source = all[i];
      const std::string element = fmt::format("{}[{}]", list, i);
      if (reading_.given(element + ".name") && good(element + ".name") && !seen.emplace(source.name, i).second) {
        refuse(element + ".name", fmt::format("found a second source `{}` in `{}`", shown(source.name), list),
               "expected each name once");
      }
      if (!good(element + ".format") || !good(element + ".path") || !good(element + ".name")) continue;
      const bool has_path = reading_.given(element + ".path"), synthetic = source.format == "synthetic";
      if (synthetic && has_path) {
        refuse(element + ".path", fmt::format("found a path for the synthetic source `{}`", shown(source.name)),
               "expected none");
      } else if (!synthetic && !has_path) {
        refuse(element, fmt::format("found no `path` for the source `{}`", shown(source.name)), "expected a file");
      }
      form(element, source);
    }
  }

  void form(const std::string& element, const DataSource& source) {
    if (reading_.given(element + ".field") && good(element + ".field") && source.format != "jsonl" &&
        source.format != "messages") {
      refuse(element + ".field", fmt::format("found a field for the format `{}`", source.format),
             "expected `format: jsonl` or `messages` beside it");
    }
    if (reading_.given(element + ".format") || !reading_.given(element + ".path")) return;
    std::string name = source.path;
    for (const char* packed : {".gz", ".zst"}) {
      if (name.ends_with(packed)) name.resize(name.size() - std::string_view(packed).size());
    }
    const char* meant = name.ends_with(".jsonl")                           ? "jsonl"
                        : name.ends_with(".bin") || name.ends_with(".idx") ? "bin"
                                                                           : nullptr;
    if (!meant) return;
    refuse(element + ".path",
           fmt::format("found `{}` without a format, which is read as plain text", shown(source.path)),
           fmt::format("expected `format: {}` beside it, or `format: text` if plain text is meant", meant));
  }

  void evaluation() {
    if (reading_.given("data.validation")) return;
    const std::string expected = "expected `data.validation` beside it: a list of sources, or {holdout: share}";
    if (good("evaluation.every") && r_.evaluation.every > 0) {
      refuse("evaluation.every", "found evaluations without held-out data", expected);
    }
    if (good("evaluation.at_end") && reading_.given("evaluation.at_end") && r_.evaluation.at_end) {
      refuse("evaluation.at_end", "found an evaluation without held-out data", expected);
    }
  }

  void exports() {
    if (!good("export.path") || !good("export.when") || !reading_.given("export") || !r_.export_.path.empty()) return;
    const bool said = reading_.given("export.when");
    if (!said || r_.export_.when != ExportWhen::never)
      refuse(said ? "export.when" : "export", "found an export without a place",
             "expected `export.path` beside it, a folder");
  }

  void router() {
    if (!good("loss.router_bias_rate") || !good("model.topk_method") || reading_.family == 0) return;
    bool moves = false;
    for (const auto& step : r_.loss.router_bias_rate.steps) moves = moves || step.second != 0;
    if (moves && r_.model.topk_method != "noaux_tc") {
      refuse("loss.router_bias_rate", "found a rate for a router that has no correction bias",
             "expected 0, or a model with topk_method noaux_tc");
    }
  }

  void pipeline() {
    for (const char* key : {"parallel.pipeline", "parallel.pipeline_schedule", "parallel.virtual_stages",
                            "parallel.stage_layers", "model.num_hidden_layers"})
      if (!good(key)) return;
    if (reading_.family == 0) return;
    pipeline_issues(r_, [&](const std::string& key, std::string found, std::string expected, std::string remedy) {
      refuse(key, std::move(found), std::move(expected), std::move(remedy));
    });
  }

  void tensor() {
    for (const char* key :
         {"parallel.tensor", "data.sequence_length", "model.num_attention_heads", "model.num_key_value_heads",
          "model.intermediate_size", "model.moe_intermediate_size", "model.n_shared_experts", "precision.compute"})
      if (!good(key)) return;
    if (reading_.family == 0) return;
    tensor_issues(r_, [&](const std::string& key, std::string found, std::string expected) {
      refuse(key, std::move(found), std::move(expected));
    });
  }

  void precision() {
    for (const char* key :
         {"precision.compute", "precision.dispatch", "precision.scale_format", "precision.gradient_block",
          "run.reproducibility", "model.hidden_size", "model.intermediate_size", "model.moe_intermediate_size",
          "model.q_lora_rank", "model.head_dim", "model.num_attention_heads", "model.num_key_value_heads"})
      if (!good(key)) return;
    if (reading_.family == 0) return;
    precision_issues(r_, [&](const std::string& key, std::string found, std::string expected) {
      refuse(key, std::move(found), std::move(expected));
    });
  }

  void context() {
    for (const char* key : {"parallel.context", "parallel.context_method", "parallel.tensor", "data.sequence_length",
                            "data.micro_batch_size", "run.reproducibility"})
      if (!good(key)) return;
    context_issues(r_, [&](const std::string& key, std::string found, std::string expected, std::string remedy) {
      refuse(key, std::move(found), std::move(expected), std::move(remedy));
    });
  }

  void expert() {
    for (const char* key :
         {"parallel.expert", "parallel.dispatcher", "parallel.dispatch_node_size", "parallel.dispatch_bound",
          "parallel.tensor", "parallel.context", "data.sequence_length", "data.micro_batch_size", "run.reproducibility",
          "model.n_routed_experts", "model.num_experts_per_tok", "model.moe_intermediate_size",
          "parallel.expert_tensor", "precision.compute"})
      if (!good(key)) return;
    if (reading_.family == 0) return;
    expert_issues(r_, [&](const std::string& key, std::string found, std::string expected) {
      refuse(key, std::move(found), std::move(expected));
    });
  }

  const Reading& reading_;
  const Recipe& r_;
  Issues& issues_;
};

/// One error each: key, found, expected.
using Refuse = std::function<void(const std::string&, std::string, std::string)>;

void rank_issues(const Recipe& r, int ranks, const Refuse& refuse) {
  const ParallelSection& p = r.parallel;
  const std::int64_t data = data_ranks(p, ranks);
  if (data == 0) {
    return refuse(
        p.pipeline > 1 ? "parallel.pipeline" : "parallel", fmt::format("found {} ranks", ranks),
        fmt::format("expected a multiple of tensor x pipeline x context = {}", p.tensor * p.pipeline * p.context));
  }
  if (p.data && *p.data != data) {
    refuse("parallel.data", fmt::format("found {} as `parallel.data`", *p.data),
           fmt::format("expected {}, which is what {} ranks leave", data, ranks));
  }
  expert_rank_issues(r, ranks, refuse);
  if (odd_size(r.data.global_batch_size, r.data.micro_batch_size) != 0) return;  // said without ranks
  const std::int64_t portion = r.data.micro_batch_size * data;
  if (const std::int64_t size = odd_size(r.data.global_batch_size, portion)) {
    refuse("data.global_batch_size", fmt::format("found {} as `global_batch_size`", size),
           fmt::format("expected a multiple of {} (micro_batch_size {} x {} data ranks)", portion,
                       r.data.micro_batch_size, data));
    return;
  }
  micro_batch_issues(r, data,
                     [&](const std::string& key, std::string found, std::string expected, const std::string& remedy) {
                       refuse(key, std::move(found), remedy.empty() ? std::move(expected) : expected + ". " + remedy);
                     });
}

}  // namespace

void check_training(const Reading& reading, Issues& issues) {
  TrainingChecks(reading, issues).run();
}

void check_ranks(const Reading& reading, int ranks, Issues& issues) {
  for (const std::string& key : reading.bad) {
    if (key.starts_with("parallel") || key.starts_with("data")) return;  // nothing sure can be said
  }
  rank_issues(reading.recipe, ranks, [&](const std::string& key, std::string found, std::string expected) {
    issues.add(reading.place(key), std::move(found), std::move(expected));
  });
}

}  // namespace recipe

void check_ranks(const Recipe& recipe, int ranks) {
  std::vector<RecipeIssue> issues;
  recipe::rank_issues(recipe, ranks, [&](const std::string& key, std::string found, std::string expected) {
    issues.push_back({key, std::move(found), std::move(expected), ""});
  });
  if (!issues.empty()) throw RecipeErrors(recipe.run.name, std::move(issues));
}

}  // namespace fourmi
