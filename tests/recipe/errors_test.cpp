// Bad recipes: each has one error, at the place marked by @, with this fragment in its line.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::issues_of;
using testing::with;

struct Bad {
  const char* from;       ///< what to replace in the small recipe; "": append
  const char* to;         ///< with the place marked by @
  const char* fragment;   ///< of "what was found, what was expected. remedy"
  std::size_t count = 1;  ///< errors in all
};

const Bad kBad[] = {
    // Unknown, misspelt, misplaced and foreign keys.
    {"  steps: 10", "  @stpes: 10\n  steps: 10", "unknown key `stpes` in `run`, expected one of `name`, `seed`"},
    {"  steps: 10", "  steps: 10\n  @sede: 1", "Did you mean `seed`?"},
    {"  hidden_size: 64", "  hidden_size: 64\n  @num_layers: 2", "fourmi calls it `model.num_hidden_layers`"},
    {"  steps: 10", "  steps: 10\n  @learning_rate: 1", "It belongs to `optimizer.learning_rate`"},
    {"optimizer: {", "optimizer: {@lr: 1, ", "fourmi calls it `optimizer.learning_rate`"},
    {"data:\n", "data:\n  @per_device_train_batch_size: 2\n", "fourmi calls it `data.micro_batch_size`"},
    {"data:\n", "data:\n  @seq_length: 2\n", "fourmi calls it `data.sequence_length`"},
    {"  steps: 10", "  steps: 10\n  @max_steps: 2", "fourmi calls it `run.steps`"},
    {"", "@tensor_model_parallel_size: 2\n", "fourmi calls it `parallel.tensor`"},
    {"", "@global_batch_size: 2\n", "It belongs to `data.global_batch_size`"},
    {"", "@cluster: {nodes: 2}\n", "unknown key `cluster` in the recipe, expected one of `run`, `model`"},
    {"", "memory: {recompute: @some}\n", "expected one of `none`, `selective`, `full`"},
    {"", "@export: {dtype: bf16}\n", "found an export without a place, expected `export.path`"},
    {"", "export: {when: @end}\n", "found an export without a place, expected `export.path`"},
    {"", "parallel: {dispatcher: @devices}\n",
     "found the text \"devices\" as `parallel.dispatcher`, expected one of `auto`"},
    {"", "parallel: {expert: 4, dispatcher: device, dispatch_node_size: @3}\n",
     "expected a power of two that divides expert, 4"},
    {"", "parallel: {expert: @3}\n", "found 3, expected a divisor of the 8 routed experts"},
    {"", "parallel: {expert_tensor: @3}\n", "found 3, expected a divisor of"},
    {"", "parallel: {expert: 2, dispatcher: @local}\n", "found local with 2 ranks that share experts"},
    {"", "parallel: {expert: 2, dispatcher: @hierarchical}\n", "found hierarchical without `dispatch_node_size`"},
    {"", "parallel: {expert: 4, dispatch_node_size: @3}\n", "expected a power of two that divides expert, 4"},
    {"", "parallel: {expert: 2, dispatcher: all-to-all, dispatch_node_size: @2}\n",
     "only hierarchical and device dispatch"},
    {"", "parallel: {expert: 2, dispatch_bound: @0.5}\n", "found"},
    {"", "parallel: {pipeline: 2, virtual_stages: 2}\n", "found 1f1b with parallel.virtual_stages = 2, expected 1"},
    {"", "precision: {dispatch: @fp8}\n", "only `compute` of eight bits has scales for it"},
    {"", "@<<: 1\n", "`base` takes over keys of other recipes"},
    {"run:\n", "run:\n  @base: x.yaml\n", "`base` belongs to the top of the file"},
    {"weight: 2}", "weight: 2, @colum: 3}", "unknown key `colum` in `data.train[]`"},
    {"weight: 2}", "weight: 2, columns: @3}", "expected a section"},
    {"keep: {last: 2}", "keep: {@lsat: 2}", "Did you mean `last`?"},
    {"  norm_topk_prob: true", "  norm_topk_prob: true\n  @num_experts: 8",
     "found the key `num_experts` of qwen3_moe, expected a key of deepseek_v3, kimi_k2. Its name there is "
     "`model.n_routed_experts`"},
    {"  norm_topk_prob: true", "  norm_topk_prob: true\n  @head_dim: 8",
     "found the key `head_dim` of qwen2, qwen3, qwen3_moe, llama, mixtral"},
    // What YAML allows and recipes do not.
    {"  steps: 10", "  steps: 10\n  @steps: 11",
     "found the key `steps` again (first in line 3), expected each key once"},
    {"  steps: 10", "  steps: @&x 10", "found an anchor (&)"},
    {"  steps: 10", "  steps: @*x", "found what is no YAML"},
    {"  steps: 10", "  steps: @!!int 10", "found a tag (!)"},
    {"name: small", "name: @! small", "found a tag (!)"},
    {"", "@---\nrun: {}\n", "found a second document"},
    {"  steps: 10", "  steps: 10\n  ? @[a, b]\n  : 3", "found a list as a key, expected a name"},
    {"  steps: 10", "  steps: 10\n  @~: 3", "found nothing as a key"},
    {"  steps: 10", "  steps: 10\n@\tbad: 1", "found what is no YAML"},
    {"name: small", "name: @\x01small", "found the byte 0x01, expected UTF-8 text"},
    {"name: small", "name: é@\xff", "found the byte 0xff, expected UTF-8 text"},
    // Types and numbers.
    {"steps: 10", "steps: @010",
     "found 010 (which YAML readers take for different numbers) as `run.steps`, expected a whole"},
    {"steps: 10", "steps: @0o10", "found 0o10"},
    {"steps: 10", "steps: @0x10", "found 0x10"},
    {"steps: 10", "steps: @1_000", "found 1_000"},
    {"steps: 10", "steps: @2.5", "found the number 2.5 as `run.steps`, expected a whole number from 1 to"},
    {"steps: 10", "steps: @0", "found the number 0 as `run.steps`, expected a whole number from 1"},
    {"steps: 10", "steps: @-3", "found the number -3"},
    {"steps: 10", "steps: @ten", "found the text \"ten\" as `run.steps`"},
    {"steps: 10", "steps: @\"10\"", "found the text \"10\" as `run.steps`"},
    {"steps: 10", "steps: @1e30", "found the number 1e30"},
    {"steps: 10", "steps: @[10]", "found a list as `run.steps`"},
    {"steps: 10", "steps: @{a: 10}", "found a section as `run.steps`"},
    {"name: small", "name: @12", "needs quotes: \"12\""},
    {"name: small", "name: @true", "found true as `run.name`, expected text"},
    {"name: small", "name: @a/b", "found the name \"a/b\", expected letters, digits"},
    {"name: small", "name: @\".hidden\"", "not beginning with `.`"},
    {"name: small", "@name:", "found nothing as `run.name`, expected text"},
    {"name: small", "name: @\"a\\tb\"", "as `run.name`, expected text"},
    {"norm_topk_prob: true", "norm_topk_prob: @yes",
     "found the text \"yes\" as `model.norm_topk_prob`, expected true or false"},
    {"norm_topk_prob: true", "norm_topk_prob: @True", "expected true or false"},
    {"norm_topk_prob: true", "norm_topk_prob: @1", "expected true or false"},
    {"learning_rate: 1.0e-3", "learning_rate: @.inf", "found .inf"},
    {"learning_rate: 1.0e-3", "learning_rate: @1e999", "expected a number from 0 to 1000"},
    {"learning_rate: 1.0e-3", "learning_rate: @-0.1", "expected a number from 0 to 1000"},
    {"betas: [0.9, 0.95]", "betas: @[0.9]", "expected two numbers from 0 to below 1"},
    {"betas: [0.9, 0.95]", "betas: @[0.9, 1.0]", "expected two numbers from 0 to below 1"},
    {"router_bias_rate: 1.0e-3", "router_bias_rate: @[[5, 1.0]]",
     "expected a number from 0 to 1000, or steps over tokens"},
    {"router_bias_rate: 1.0e-3", "router_bias_rate: @[[0, 1.0], [9, 0], [9, 1]]", "steps over tokens"},
    {"checkpoint: {every: 5", "checkpoint: {every: @5x", "or a duration such as 30m"},
    {"  steps: 10", "  steps: 10\n  time: @30", "expected a duration with its unit, such as 90s, 30m, 12h or 2d"},
    {"  steps: 10", "  steps: 10\n  device: @gpu", "expected one of `auto`, `cpu`, `cuda`. Did you mean `cpu`?"},
    {"model_type: deepseek_v3", "model_type: @deepseek_v4", "Did you mean `deepseek_v"},
    {"", "logging: {trace_steps: @[3, 2]}\n", "expected the first and the last, such as [10, 12], or []"},
    {"", "logging: {trace_steps: @[0, 2]}\n", "expected the first and the last"},
    {"", "logging: {trace_steps: @[2]}\n", "expected the first and the last"},
    {"", "logging: {trace_steps: @[1, 2.5]}\n", "expected the first and the last"},
    {"", "logging: {trace_steps: @5}\n", "expected the first and the last"},
    {"", "precision: {compute: @fp64}\n",
     "found the text \"fp64\" as `precision.compute`, expected one of `fp32`, `bf16`, `fp8-block`, `fp8-tensor`, "
     "`mxfp8`"},
    {"", "parallel: {context: @3}\n", "found 3 as `context`, expected 1, 2, 4 or 8"},
    {"", "parallel: {tensor: @3}\n", "found 3 as `tensor`, expected 1"},
    {"", "parallel: {zero: @0}\n", "found the number 0 as `parallel.zero`, expected one of `1`, `2`, `3`"},
    {"optimizer: {", "optimizer: {name: @muon, ", "found the text \"muon\" as `optimizer.name`, expected adamw"},
    {"run:\n  name: small\n  steps: 10\n", "run: @3\n", "found the number 3 as `run`, expected a section"},
    {"  train:\n    - {name: web, path: /data/web.txt, weight: 2}\n    - {name: made-up, format: synthetic}\n",
     "  train: @[]\n", "found an empty list as `data.train`, expected a list of sources"},
    {"    - {name: made-up, format: synthetic}", "    - @made-up", "expected a source (`- {name: ...}`)"},
    {"format: synthetic", "format: @parquet",
     "expected one of `text`, `jsonl`, `bin`, `messages`, `prompt-completion`, `synthetic`"},
    {"global_batch_size: 8", "global_batch_size: @0",
     "expected a whole number from 1 to 1048576, or steps over tokens"},
    {"global_batch_size: 8", "global_batch_size: @[[0, 8], [100, 12.5]]", "expected a whole number from 1"},
    {"global_batch_size: 8", "global_batch_size: @[[5, 8]]", "such as [[0, 256], [10e9, 512]]"},
    {"global_batch_size: 8", "global_batch_size: @[[0, 8], [100, 16], [100, 32]]", "or steps over tokens"},
    {"micro_batch_size: 2", "micro_batch_size: 2\n  repeat: @0", "expected a whole number from 1"},
    {"weight: 2}", "weight: @0}", "expected a number above 0"},
    {"holdout: 0.1", "holdout: @0.9", "expected a number above 0 and at most 0.5"},
    // What is missing.
    {"  name: small\n", "", "found no `name` in `run`"},
    {"  hidden_size: 64\n", "", "found no `hidden_size` in `model`, expected a whole number from 1 to"},
    {"  sequence_length: 32\n", "", "found no `sequence_length` in `data`"},
    {"{name: web, path", "@{path", "found no `name` in `data.train[0]`"},
    {"path: /data/web.txt, ", "", "found no `path` for the source `web`, expected a file"},
    {"  steps: 10\n", "",
     "found no length of the run, expected exactly one of `run.steps`, `run.tokens`, `run.epochs`"},
    // What does not fit together.
    {"  steps: 10", "  steps: 10\n  tokens: @5e6", "found `run.tokens` beside `run.steps`, expected exactly one of"},
    {"steps: 10", "epochs: @2", "found `run.epochs` with a synthetic source, which has no end"},
    {"global_batch_size: 8", "global_batch_size: @9", "expected a multiple of `micro_batch_size`, which is 2"},
    {"global_batch_size: 8", "global_batch_size: @[[0, 8], [1e6, 11]]",
     "found 11 as `global_batch_size`, expected a multiple of `micro_batch_size`, which is 2"},
    {"micro_batch_size: 2", "micro_batch_size: 2\n  overlong: @drop", "found `overlong` with `packing: true`"},
    {"path: /data/web.txt", "path: @/data/web.jsonl.zst", "expected `format: jsonl` beside it, or `format: text`"},
    {"path: /data/web.txt", "path: @/data/web.bin", "expected `format: bin` beside it"},
    {"weight: 2}", "weight: 2, loss_on: @last}", "found `loss_on` for the format `text`, expected `format: messages`"},
    {"weight: 2}", "weight: 2, reasoning: @drop}", "found `reasoning` for the format `text`"},
    {"micro_batch_size: 2", "micro_batch_size: 2\n  chat_date: @2026-13-01", "expected a date, YYYY-MM-DD"},
    {"weight: 2}", "weight: 2, field: @body}", "found a field for the format `text`, expected `format: jsonl`"},
    {"sequence_length: 32", "sequence_length: @65", "expected at most 64, the model's `max_position_embeddings`"},
    {"num_experts_per_tok: 2", "num_experts_per_tok: @9", "expected at most the 8 experts of `n_routed_experts`"},
    {"n_group: 4", "n_group: @3", "expected a divisor of the 8 `n_routed_experts`"},
    {"topk_group: 2", "topk_group: @5", "expected at most the 4 groups of `n_group`"},
    {"num_experts_per_tok: 2\n  n_group: 4\n  topk_group: 2", "num_experts_per_tok: 5\n  n_group: 4\n  topk_group: @2",
     "found 2 groups of 2 experts kept for each token, expected room for the 5 experts"},
    {"n_group: 4", "n_group: @8", "expected at least two experts in a group"},
    {"  norm_topk_prob: true", "  norm_topk_prob: true\n  num_key_value_heads: @2",
     "expected 4, as many as `num_attention_heads`"},
    {"qk_rope_head_dim: 8", "qk_rope_head_dim: @7", "expected an even number"},
    {"first_k_dense_replace: 1", "first_k_dense_replace: @3", "expected at most the 2 blocks"},
    {"vocab_size: 320", "vocab_size: @256", "expected at least 257 for the tokenizer `bytes`"},
    {"name: made-up,", "name: @web,", "found a second source `web` in `data.train`"},
    {"format: synthetic", "format: synthetic, path: @/x",
     "found a path for the synthetic source `made-up`, expected none"},
    {"  validation: {holdout: 0.1}\nopt", "opt", "expected `data.validation` beside it"},
    {"decay_end_step: 10,", "decay_end_step: @2,", "found a decay from 2 to 2, expected its end after its start"},
    {"decay_end_step: 10,", "decay_end_step: 10, decay_start_step: @1,", "expected it to begin after the warm-up"},
    {"decay_end_step: 10, ", "", "found no `schedule.decay_end_step` with the schedule `cosine`"},
    {"name: cosine, warmup_steps: 2, decay_end_step", "name: constant, warmup_steps: 2, decay_end_step",
     "found `schedule.decay_end_step` with the schedule `constant`, expected none"},
    {"warmup_steps: 2,", "warmup_fraction: @0.1,", "without `run.epochs`, expected the length that it is a share of"},
    {"warmup_steps: 2,", "warmup_steps: 2, warmup_fraction: @0.1, horizon_steps: 9,",
     "found `schedule.warmup_fraction` beside `schedule.warmup_steps`, expected one of them"},
    {"warmup_steps: 2,", "warmup_fraction: @1, horizon_steps: 9,", "expected a share below 1"},
    {"warmup_steps: 2,", "warmup_steps: 2, horizon_steps: @9,", "by which nothing of this schedule is counted"},
    {"warmup_steps: 2, decay_end_step: 10,", "warmup_steps: 2, horizon_steps: @2,",
     "found 2 as `schedule.horizon_steps`, expected more than the 2 steps of the warm-up"},
    {"warmup_steps: 2, decay_end_step: 10,", "warmup_fraction: 0.1, decay_end_tokens: @10,",
     "found `schedule.decay_end_tokens` beside `schedule.warmup_fraction`"},
    {"warmup_steps: 2,", "warmup_tokens: @2,", "found `schedule.warmup_tokens` beside `schedule.decay_end_step`"},
    {"  norm_topk_prob: true", "  norm_topk_prob: true\n  topk_method: greedy",
     "expected all groups, since greedy knows no groups", 2},
    {"  norm_topk_prob: true", "  norm_topk_prob: true\n  hidden_act: @gelu",
     "expected silu. Other values are not built"},
    {"  norm_topk_prob: true", "  norm_topk_prob: true\n  attention_bias: @true",
     "expected false. Other values are not built"},
};

TEST(Errors, EachBadRecipeHasItsPlaceAndItsMessage) {
  EXPECT_GE(std::size(kBad), 100u);
  for (const Bad& bad : kBad) {
    const std::string from = bad.from, marked_text = bad.to;
    std::string text = from.empty() ? testing::small_recipe() + marked_text : with(from, marked_text);
    SCOPED_TRACE(marked_text.empty() ? "without " + from : marked_text);
    std::string place;
    const std::size_t mark = text.find('@');
    if (mark != std::string::npos) {
      text.erase(mark, 1);
      const std::string before = text.substr(0, mark);
      const auto line = std::count(before.begin(), before.end(), '\n') + 1;
      const std::size_t start = before.rfind('\n') == std::string::npos ? 0 : before.rfind('\n') + 1;
      long column = 1;
      for (std::size_t i = start; i < mark; ++i) column += (static_cast<unsigned char>(before[i]) & 0xC0) != 0x80;
      place = "recipe:" + std::to_string(line) + ":" + std::to_string(column);
    }
    const std::vector<RecipeIssue> issues = issues_of(text);
    const std::string all = testing::all_of(issues);
    ASSERT_FALSE(issues.empty());
    bool found = false;
    for (const RecipeIssue& issue : issues) {
      found =
          found || (issue.text().find(bad.fragment) != std::string::npos && (place.empty() || issue.place == place));
    }
    EXPECT_TRUE(found) << "expected at " << place << ": " << bad.fragment << "\ngot\n" << all;
    EXPECT_EQ(issues.size(), bad.count) << all;
  }
}

TEST(Errors, AllAtOnceSortedByPlace) {
  const std::string text =
      with("hidden_size: 64", "hidden_size: -1", with("name: small", "name: 7", with("every: 5}", "evrey: 5}")));
  const std::vector<RecipeIssue> issues = issues_of(text, {"run.seed=x", "loss.mtp_weight=-1"});
  ASSERT_EQ(issues.size(), 5u) << testing::all_of(issues);
  EXPECT_EQ(issues[0].place, "recipe:2:9");
  EXPECT_EQ(issues[1].place, "recipe:7:16");
  EXPECT_EQ(issues[2].place, "recipe:37:14");
  EXPECT_EQ(issues[3].place, "override 1 (run.seed=x)");
  EXPECT_EQ(issues[4].place, "override 2 (loss.mtp_weight=-1)");
}

TEST(Errors, TheLastLineCountsThem) {
  try {
    parse_recipe(with("name: small", "name: 7", with("steps: 10", "steps: 0")), "my.yaml");
    FAIL();
  } catch (const RecipeErrors& errors) {
    EXPECT_EQ(errors.status(), ExitStatus::usage);
    EXPECT_EQ(errors.lines().size(), 2u);
    EXPECT_EQ(std::string(errors.what()).substr(0, 34), "my.yaml: 2 errors, expected none. ");
  }
  try {
    parse_recipe(with("name: small", "name: 7"), "my.yaml");
    FAIL();
  } catch (const RecipeErrors& errors) {
    EXPECT_TRUE(errors.lines().empty());
    EXPECT_EQ(std::string(errors.what()).substr(0, 50), "my.yaml:2:9: found the number 7 as `run.name`, exp");
  }
}

TEST(Errors, OfLayoutMode) {
  const auto issues = issues_of(with("sequence_length: 32", "sequence_length: 40"), {"run.reproducibility=layout"});
  ASSERT_EQ(issues.size(), 1u);
  EXPECT_EQ(issues[0].place, "recipe:28:20");
  EXPECT_NE(issues[0].text().find("expected a multiple of 16"), std::string::npos);
  EXPECT_TRUE(issues_of(with("sequence_length: 32", "sequence_length: 40")).empty());
}

TEST(Errors, OfContextRanks) {
  const std::vector<std::string> ring{"parallel.context=2", "parallel.context_method=ring"};
  EXPECT_TRUE(issues_of(testing::small_recipe(), ring).empty());
  const auto layout = issues_of(testing::small_recipe(), {ring[0], ring[1], "run.reproducibility=layout"});
  ASSERT_EQ(layout.size(), 1u);
  EXPECT_NE(layout[0].text().find("found ring with run.reproducibility layout, expected all-gather"), std::string::npos)
      << layout[0].text();
  const auto length = issues_of(with("sequence_length: 32", "sequence_length: 40"), {"parallel.context=2"});
  ASSERT_EQ(length.size(), 1u);
  EXPECT_EQ(length[0].place, "recipe:28:20");
  EXPECT_NE(length[0].text().find("expected a multiple of 16: ranks share a sequence"), std::string::npos);
  const auto blocks = issues_of(testing::small_recipe(), {"parallel.context=8", "data.micro_batch_size=1"});
  EXPECT_TRUE(blocks.empty());
  for (const auto& [sequences, issues] : {std::pair{"1", 1u}, {"2", 0u}}) {
    const std::string micro = std::string("data.micro_batch_size=") + sequences;
    const auto found =
        issues_of(testing::small_recipe(), {"parallel.context=8", "parallel.tensor=4", micro,
                                            "model.num_attention_heads=4", "model.num_key_value_heads=4"});
    ASSERT_EQ(found.size(), issues) << (found.empty() ? "" : found[0].text());
    if (issues > 0) {
      EXPECT_NE(found[0].text().find("expected context x tensor to divide 16"), std::string::npos) << found[0].text();
    }
  }
}

TEST(Errors, OfRanks) {
  EXPECT_TRUE(issues_of(testing::small_recipe(), {}, 4).empty());
  const auto three = issues_of(testing::small_recipe(), {}, 3);
  ASSERT_EQ(three.size(), 1u);
  EXPECT_EQ(
      three[0].text(),
      "recipe:29:22: found 8 as `global_batch_size`, expected a multiple of 6 (micro_batch_size 2 x 3 data ranks)");
  const auto ramp = issues_of(with("size: 8", "size: [[0, 8], [1e9, 20]]"), {}, 4);
  ASSERT_EQ(ramp.size(), 1u);
  EXPECT_NE(ramp[0].text().find("found 20 as `global_batch_size`, expected a multiple of 8"), std::string::npos);
  const auto asserted = issues_of(testing::small_recipe(), {"parallel.data=4"}, 2);
  ASSERT_EQ(asserted.size(), 1u);
  EXPECT_EQ(asserted[0].text(),
            "override 1 (parallel.data=4): found 4 as `parallel.data`, expected 2, which is what 2 ranks leave");
  const Recipe recipe = parse_recipe(testing::small_recipe());
  EXPECT_NO_THROW(check_ranks(recipe, 4));
  try {
    check_ranks(recipe, 8);
    FAIL();
  } catch (const RecipeErrors& errors) {
    EXPECT_EQ(errors.place(), "data.global_batch_size");
  }
}

}  // namespace
}  // namespace fourmi
