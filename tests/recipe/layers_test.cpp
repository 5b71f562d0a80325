// `base`, overrides and model.config: which value wins, and what each may say.
#include <gtest/gtest.h>

#include "framework/recipe/compare.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::Folder;
using testing::small_recipe;
using testing::with;

std::string first_error(const std::string& path, const std::vector<std::string>& overrides = {}) {
  try {
    load_recipe(path, overrides);
  } catch (const RecipeErrors& errors) {
    return errors.issues().front().text();
  }
  return "none";
}

TEST(Base, MapsMergeListsAndValuesReplaceTheLaterWins) {
  const Folder folder("base");
  folder.write("parts/small.yaml", small_recipe());
  folder.write("parts/rate.yaml", "optimizer: {learning_rate: 0.5, epsilon: 1.0e-6}\nrun: {seed: 7}\n");
  const std::string path = folder.write("mine.yaml", R"(base: [parts/small.yaml, parts/rate.yaml]
run: {name: mine}
optimizer: {betas: [0.5, 0.6]}
data:
  train: [{name: only, format: synthetic}]
)");
  const Recipe r = load_recipe(path);
  EXPECT_EQ(r.run.name, "mine");
  EXPECT_EQ(r.run.directory, "runs/mine");
  EXPECT_EQ(r.run.seed, 7u);
  EXPECT_EQ(r.run.steps, 10);
  EXPECT_EQ(r.optimizer.learning_rate, 0.5);
  EXPECT_EQ(r.optimizer.epsilon, 1e-6);
  EXPECT_EQ(r.optimizer.beta1, 0.5);
  ASSERT_EQ(r.data.train.size(), 1u);
  EXPECT_EQ(r.data.train[0].name, "only");
  EXPECT_EQ(r.data.sequence_length, 32);
}

TEST(Base, IsRelativeToTheFileThatNamesIt) {
  const Folder folder("relative");
  folder.write("a/b/small.yaml", small_recipe());
  folder.write("a/middle.yaml", "base: b/small.yaml\nrun: {seed: 3}\n");
  EXPECT_EQ(load_recipe(folder.write("top.yaml", "base: a/middle.yaml\n")).run.seed, 3u);
}

TEST(Base, ErrorsNameTheFileThatHoldsThem) {
  const Folder folder("errors");
  const std::string base = folder.write("base.yaml", with("steps: 10", "stpes: 10"));
  const std::string path = folder.write("top.yaml", "base: base.yaml\nrun: {steps: 3, sede: 1}\n");
  try {
    load_recipe(path);
    FAIL();
  } catch (const RecipeErrors& errors) {
    ASSERT_EQ(errors.issues().size(), 2u);
    EXPECT_EQ(errors.issues()[0].place, path + ":2:17");
    EXPECT_EQ(errors.issues()[1].place, base + ":3:3");
  }
}

TEST(Base, CirclesDepthNumberAndAbsentFilesAreErrors) {
  const Folder folder("circle");
  folder.write("a.yaml", "base: b.yaml\n");
  folder.write("b.yaml", "base: ./a.yaml\n");
  EXPECT_NE(first_error((folder.path() / "a.yaml").string()).find("based on this file"), std::string::npos);
  EXPECT_NE(first_error(folder.write("self.yaml", "base: self.yaml\n")).find("based on this file"), std::string::npos);
  for (int i = 0; i < 20; ++i) folder.write(fmt::format("d{}.yaml", i), fmt::format("base: d{}.yaml\n", i + 1));
  EXPECT_NE(first_error((folder.path() / "d0.yaml").string()).find("expected a handful"), std::string::npos);
  // Each names the next one four times: 4^12 files if they were all read.
  for (int i = 0; i < 12; ++i) {
    folder.write(fmt::format("w{}.yaml", i),
                 fmt::format("base: [w{0}.yaml, w{0}.yaml, w{0}.yaml, w{0}.yaml]\n", i + 1));
  }
  folder.write("w12.yaml", small_recipe());
  EXPECT_NE(first_error((folder.path() / "w0.yaml").string()).find("expected a handful"), std::string::npos);
  const std::string path = folder.write("absent.yaml", "run: {}\nbase: [nowhere.yaml]\n");
  EXPECT_EQ(first_error(path).substr(0, path.size() + 6), path + ":2:8: ");
  EXPECT_NE(first_error(folder.write("number.yaml", "base: {}\n")).find("as `base`, expected a file's name"),
            std::string::npos);
  EXPECT_NE(first_error((folder.path() / "nothing.yaml").string()).find("found no file"), std::string::npos);
  EXPECT_NE(first_error(folder.path().string()).find("found no file"), std::string::npos);
  EXPECT_NE(first_error(folder.write("empty.yaml", "# nothing\n")).find("found an empty file"), std::string::npos);
}

TEST(Base, LengthsReplaceOneAnother) {
  const Folder folder("lengths");
  folder.write("small.yaml", small_recipe());
  const Recipe r = load_recipe(folder.write("top.yaml", "base: small.yaml\nrun: {tokens: 100e9}\n"));
  EXPECT_FALSE(r.run.steps.has_value());
  EXPECT_EQ(r.run.tokens, 100e9);
  EXPECT_EQ(load_recipe(folder.path() / "top.yaml", {"run.steps=5"}).run.steps, 5);
  const Recipe kept = load_recipe(folder.write("null.yaml", "base: small.yaml\nrun: {tokens: null}\n"));
  EXPECT_EQ(kept.run.steps, 10);
}

TEST(Overrides, ReachKeysAndElements) {
  const std::vector<std::string> overrides = {"data.train.web.weight=0.5",
                                              "data.train.1.weight=4",
                                              "optimizer.betas=[0.8, 0.9]",
                                              "checkpoint.keep={every_steps: 20}",
                                              "model.q_lora_rank=null",
                                              "checkpoint.every=30m",
                                              "run.name=\"12\"",
                                              "run.steps=1",
                                              "run.steps=2e3",
                                              "parallel.data=2"};
  const Recipe r = parse_recipe(small_recipe(), "recipe", overrides, 2);
  EXPECT_EQ(r.data.train[0].weight, 0.5);
  EXPECT_EQ(r.data.train[1].weight, 4);
  EXPECT_EQ(r.optimizer.beta1, 0.8);
  EXPECT_EQ(r.checkpoint.keep_last, 2);
  EXPECT_EQ(r.checkpoint.keep_every_steps, 20);
  EXPECT_EQ(r.model.q_lora_rank, 0);
  EXPECT_EQ(r.checkpoint.every_seconds, 1800);
  EXPECT_EQ(r.checkpoint.every_steps, 0);
  EXPECT_EQ(r.run.name, "12");
  EXPECT_EQ(r.run.steps, 2000);
}

TEST(Overrides, AreCheckedAsInTheFile) {
  const auto error = [](const std::string& override_text) {
    const auto issues = testing::issues_of(small_recipe(), {"run.seed=1", override_text});
    return issues.size() == 1 ? issues[0].text() : fmt::format("{} errors\n{}", issues.size(), testing::all_of(issues));
  };
  EXPECT_EQ(
      error("optimizer.learning_rate=fast"),
      "override 2 (optimizer.learning_rate=fast): found the text \"fast\" as `optimizer.learning_rate`, expected a "
      "number from 0 to 1000");
  EXPECT_NE(error("run.stpes=1").find("override 2 (run.stpes=1): found the unknown key `stpes`"), std::string::npos);
  EXPECT_NE(error("data.train.nobody.weight=1").find("found no element `nobody` in the list `data.train`"),
            std::string::npos);
  EXPECT_NE(error("data.train.2.weight=1").find("or an index below 2"), std::string::npos);
  EXPECT_NE(error("steps").find("found no `=`"), std::string::npos);
  EXPECT_NE(error("run..steps=1").find("found an empty name"), std::string::npos);
  EXPECT_NE(error("base=x.yaml").find("expected `base` only in a file"), std::string::npos);
  EXPECT_NE(error("run.seed=[1").find("found what is no YAML"), std::string::npos);
  EXPECT_NE(error("run.seed=").find("found nothing as `run.seed`"), std::string::npos);
  EXPECT_NE(error("run.seed.x=1").find("found a section as `run.seed`"), std::string::npos);
  std::string deep = "run";
  for (int i = 0; i < 1000; ++i) deep += ".a";
  EXPECT_NE(error(deep + "=1").find("found 1001 names"), std::string::npos);
}

constexpr const char* kConfig = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
  "quantization_config": {"fmt": "e4m3", "weight_block_size": [128, 128]}, "hidden_act": "silu",
  "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 0, "ep_size": 1,
  "vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 3, "num_nextn_predict_layers": 1,
  "first_k_dense_replace": 1, "intermediate_size": 128, "moe_intermediate_size": 32, "n_routed_experts": 8,
  "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2, "scoring_func": "sigmoid",
  "topk_method": "noaux_tc", "norm_topk_prob": true, "routed_scaling_factor": 2.5, "num_attention_heads": 4,
  "num_key_value_heads": 4, "q_lora_rank": null, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
  "v_head_dim": 8, "head_dim": 8, "qk_head_dim": 16, "rms_norm_eps": 1e-06, "rope_theta": 10000,
  "max_position_embeddings": 2560, "use_cache": true, "tie_word_embeddings": false, "mlp_only_layers": null,
  "rope_scaling": {"type": "yarn", "rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 64,
	"beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}
}
)";

/// The small recipe with its model taken from config.json.
std::string from_config(const std::string& keys = "  config: hf/config.json\n") {
  std::string text = small_recipe();
  const std::size_t begin = text.find("model:\n") + 7, end = text.find("loss:");
  return text.replace(begin, end - begin, keys);
}

TEST(Config, GivesTheKeysAndTheRecipeOverridesThem) {
  const Folder folder("config");
  folder.write("hf/config.json", kConfig);
  const std::string path = folder.write("r.yaml", from_config("  config: hf/config.json\n  num_hidden_layers: 2\n"));
  const Recipe r = load_recipe(path);
  EXPECT_EQ(r.model.num_hidden_layers, 2);
  EXPECT_EQ(r.model.routed_scaling_factor, 2.5);
  EXPECT_EQ(r.model.q_lora_rank, 0);
  EXPECT_EQ(r.model.rms_norm_eps, 1e-6);
  ASSERT_TRUE(r.model.rope_scaling.has_value());
  EXPECT_EQ(r.model.rope_scaling->factor, 40);
  EXPECT_EQ(r.model.rope_scaling->original_max_position_embeddings, 64);
  EXPECT_EQ(r.model.config, "hf/config.json");
  // YaRN: 40 x 64 positions.
  EXPECT_NO_THROW(load_recipe(path, {"data.sequence_length=2560"}));
  EXPECT_THROW(load_recipe(path, {"data.sequence_length=2561"}), RecipeErrors);
  // The same keys written out are the same recipe.
  Recipe written = r;
  written.model.config = "elsewhere.json";
  EXPECT_TRUE(compare(r, written).empty());
}

TEST(Config, RefusesWhatItDoesNotKnow) {
  const Folder folder("config-errors");
  const std::string path = folder.write("r.yaml", from_config());
  const auto error = [&](const std::string& from, const std::string& to) {
    folder.write("hf/config.json", with(from, to, kConfig));
    return first_error(path);
  };
  const std::string config = (folder.path() / "hf/config.json").string();
  EXPECT_EQ(error("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\""),
            config + ":3:90: found the text \"gelu\" as `model.hidden_act`, expected silu. Other values are not built");
  EXPECT_NE(error("\"attention_bias\": false", "\"attention_bias\": true").find(":4:21: found true"),
            std::string::npos);
  EXPECT_NE(error("\"use_cache\": true", "\"index_topk\": 64").find("found the key `index_topk`"), std::string::npos);
  EXPECT_NE(
      error("\"head_dim\": 8, \"qk_head", "\"head_dim\": 9, \"qk_head").find("expected 8, from `qk_rope_head_dim`"),
      std::string::npos);
  EXPECT_NE(error("\"use_cache\": true", "\"vocab_size\": 3").find("found the key `vocab_size` again"),
            std::string::npos);
  EXPECT_NE(error("\"type\": \"yarn\", \"rope_type\": \"yarn\"", "\"rope_type\": \"linear\"")
                .find("expected one of `yarn`, `llama3`"),
            std::string::npos);
  EXPECT_NE(error("\"use_cache\": true,", "\"use_cache\": 1e999,").find(config + ":1:1: found a number too large"),
            std::string::npos);
  EXPECT_NE(error("\"use_cache\": true,", "use_cache: true,").find(config + ":11:36: found what is no JSON"),
            std::string::npos)
      << first_error(path);
  folder.write("hf/config.json", "[]");
  EXPECT_NE(first_error(path).find("expected a JSON object"), std::string::npos);
  std::filesystem::remove(config);
  EXPECT_EQ(first_error(path).substr(0, path.size() + 6), path + ":5:11:");
}

TEST(Config, OfQwen3) {
  const Folder folder("config-qwen3");
  folder.write("hf/config.json", R"({"model_type": "qwen3_moe", "vocab_size": 320, "hidden_size": 64,
    "num_hidden_layers": 2, "intermediate_size": 128, "moe_intermediate_size": 32, "num_experts": 8,
    "num_experts_per_tok": 2, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
    "rope_scaling": null, "sliding_window": null, "use_sliding_window": false, "max_window_layers": 2,
    "router_aux_loss_coef": 0.001, "output_router_logits": false})");
  const std::string text = with("loss: {router_bias_rate: 1.0e-3}\n", "", from_config());
  const Recipe r = load_recipe(folder.write("r.yaml", text));
  EXPECT_EQ(r.model.n_routed_experts, 8);
  EXPECT_EQ(r.model.num_key_value_heads, 2);
  EXPECT_EQ(r.model.scoring_func, "softmax");
  EXPECT_EQ(r.model.topk_method, "greedy");
  EXPECT_EQ(r.loss.router_bias_rate.at(0), 0);
}

}  // namespace
}  // namespace fourmi
