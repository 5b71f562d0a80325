// The keys of distill that say what a student learns of a teacher's logits, and how the teacher works beside it.
#include <array>

#include "framework/recipe/access.h"

namespace fourmi::recipe {
namespace {

void add_objective(std::vector<Field>& table) {
  table.push_back(
      bind({.path = "distill.mode",
            .type = Type::choice,
            .meaning = "online: from the logits of a teacher in the same job; on-policy: so too, and on texts that the "
                       "student itself writes; offline: from a cache of them (`fourmi teacher capture`); text: from "
                       "texts that a teacher wrote (`fourmi teacher harvest`).",
            .choices = {"online", "on-policy", "offline", "text"},
            .default_text = "none"},
           FOURMI_AT(distill.mode)));
  table.push_back(
      bind({.path = "distill.objective",
            .type = Type::choice,
            .meaning = "How far the student's distribution is from the teacher's. forward-kl: sum p log(p / q), "
                       "which covers all that the teacher may say; reverse-kl: sum q log(q / p), which keeps "
                       "to what it says most; jsd: the generalised Jensen-Shannon divergence between them, by "
                       "`distill.beta`.",
            .choices = {"forward-kl", "reverse-kl", "jsd"}},
           FOURMI_AT(distill.objective)));
  table.push_back(bind({.path = "distill.beta",
                        .type = Type::number,
                        .meaning = "Of jsd: the teacher's share of the mixture that both are held against.",
                        .unit = "share",
                        .least = 0,
                        .most = 1,
                        .above_least = true},
                       FOURMI_AT(distill.beta)));
  table.push_back(
      bind({.path = "distill.temperature",
            .type = Type::number,
            .meaning = "Both models' logits are divided by it, and the divergence is multiplied by its square.",
            .least = 0,
            .most = 100,
            .above_least = true},
           FOURMI_AT(distill.temperature)));
  table.push_back(
      bind({.path = "distill.weight",
            .type = Type::stepped,
            .meaning = "The divergence's share of the loss; the rest is cross-entropy. Constant, or [[tokens, "
                       "value], ...].",
            .unit = "share",
            .least = 0,
            .most = 1},
           FOURMI_AT(distill.weight)));
}

void add_cache(std::vector<Field>& table) {
  table.push_back(bind({.path = "distill.cache",
                        .type = Type::text,
                        .meaning = "Of offline: the folder that `fourmi teacher capture` fills and the student learns "
                                   "from.",
                        .default_text = "none"},
                       FOURMI_AT(distill.cache)));
  table.push_back(bind({.path = "distill.top_k",
                        .type = Type::whole,
                        .meaning = "Of offline: the likeliest tokens of a position that the cache keeps, with the mass "
                                   "of all others: 4 bytes each and 4 more.",
                        .unit = "tokens",
                        .nullable = true,
                        .least = 1,
                        .most = most_cache_entries,
                        .default_text = "64 without distill.samples"},
                       FOURMI_AT(distill.top_k)));
  table.push_back(bind({.path = "distill.samples",
                        .type = Type::whole,
                        .meaning = "Of offline, in place of `top_k`: tokens of a position that are drawn so that their "
                                   "expectation is the teacher's whole distribution: 4 bytes each and 4 more.",
                        .unit = "tokens",
                        .nullable = true,
                        .least = 1,
                        .most = most_cache_entries,
                        .default_text = "none"},
                       FOURMI_AT(distill.samples)));
}

void add_layout(std::vector<Field>& table) {
  table.push_back(
      {.path = "distill.teacher.parallel",
       .type = Type::section,
       .meaning = "The teacher's own layout on the ranks of the job; what its axes leave is data parallelism."});
  table.back().get = [](const Recipe& r, std::size_t) {
    return r.distill.teacher.parallel != ParallelSection{} ? Value(true) : Value{};
  };
  const auto size = [&](const char* key, const char* meaning, auto member) {
    table.push_back(bind({.path = std::string("distill.teacher.parallel.") + key,
                          .type = Type::whole,
                          .meaning = meaning,
                          .unit = "ranks",
                          .least = 1,
                          .most = 4096},
                         member));
  };
  size("tensor", "Ranks that share each layer's matrices.", FOURMI_AT(distill.teacher.parallel.tensor));
  size("pipeline", "Ranks that each have some of its layers.", FOURMI_AT(distill.teacher.parallel.pipeline));
  size("context", "Ranks that share each sequence.", FOURMI_AT(distill.teacher.parallel.context));
  size("expert", "Ranks that share each layer's experts.", FOURMI_AT(distill.teacher.parallel.expert));
  size("expert_tensor", "Ranks that share each expert's columns.", FOURMI_AT(distill.teacher.parallel.expert_tensor));
  size("virtual_stages", "Runs of layers that a rank of the pipeline has.",
       FOURMI_AT(distill.teacher.parallel.virtual_stages));
  table.back().unit = "stages";
}

}  // namespace

void add_distill_fields(std::vector<Field>& table) {
  table.push_back({.path = "distill", .type = Type::section, .meaning = "What the student learns from a teacher."});
  table.back().get = [](const Recipe& r, std::size_t) { return r.distill != DistillSection{} ? Value(true) : Value{}; };
  add_objective(table);
  add_cache(table);
  add_on_policy_fields(table);
}

void add_teacher_layout_fields(std::vector<Field>& table) {
  table.push_back(bind(
      {.path = "distill.teacher.from",
       .type = Type::text,
       .meaning = "The teacher whose logits are learned from, or captured: a run, a checkpoint, a Hugging Face folder "
                  "or a GGUF file, with the student's tokenizer.",
       .default_text = "none"},
      FOURMI_AT(distill.teacher.from)));
  table.push_back(bind({.path = "distill.teacher.micro_batch_size",
                        .type = Type::whole,
                        .meaning = "Sequences that the teacher takes at once.",
                        .unit = "sequences",
                        .nullable = true,
                        .least = 1,
                        .most = 65536,
                        .default_text = "the student's"},
                       FOURMI_AT(distill.teacher.micro_batch_size)));
  Field precision{.path = "distill.teacher.precision",
                  .type = Type::choice,
                  .meaning = "The teacher's products, as `precision.compute`.",
                  .choices = {"fp32", "bf16", "fp8-block", "mxfp8"},
                  .default_text = "the student's"};
  constexpr std::array computes{Compute::fp32, Compute::bf16, Compute::fp8_block, Compute::mxfp8};
  precision.get = [computes, names = precision.choices](const Recipe& r, std::size_t) -> Value {
    for (std::size_t i = 0; i < computes.size(); ++i)
      if (r.distill.teacher.compute == computes[i]) return names[i];
    return {};
  };
  precision.set = [computes, names = precision.choices](Recipe& r, std::size_t, const Value& value) {
    for (std::size_t i = 0; i < computes.size(); ++i)
      if (names[i] == std::get<std::string>(value)) r.distill.teacher.compute = computes[i];
  };
  table.push_back(std::move(precision));
  add_layout(table);
}

}  // namespace fourmi::recipe
