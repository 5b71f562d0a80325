// config.json of every family, in the shape in which released models have it and in that of transformers 5.
#include <gtest/gtest.h>

#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

std::string config_text(const std::string& name) {
  return testing::contents(testing::root() / "tests/recipe/configs" / (name + ".json"));
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

/// A folder with a recipe whose model is a config.json.
class Configs : public ::testing::Test {
 protected:
  std::string recipe(const std::string& config) {
    folder_.write("config.json", config);
    std::string text = testing::small_recipe();
    const std::size_t begin = text.find("model:\n") + 7, end = text.find("data:");
    return folder_.write("r.yaml", text.replace(begin, end - begin, "  config: config.json\n"));
  }
  ModelSection model(const std::string& config) {
    const Recipe r = load_recipe(recipe(config));
    EXPECT_TRUE(parse_recipe(to_yaml(r)).model == [&] {
      ModelSection m = r.model;
      m.config.clear();
      return m;
    }()) << to_yaml(r);
    return r.model;
  }
  std::string error(const std::string& config) {
    const std::string path = recipe(config);
    try {
      load_recipe(path);
    } catch (const RecipeErrors& errors) {
      return testing::all_of(errors.issues());
    }
    return "no error";
  }
  testing::Folder folder_{"families"};
};

TEST_F(Configs, OfLlama) {
  const std::string text = config_text("llama-3.1-8b");
  const ModelSection m = model(text);
  EXPECT_EQ(m.head_dim, 128);
  EXPECT_EQ(m.num_key_value_heads, 8);
  EXPECT_EQ(m.n_routed_experts, 0);
  ASSERT_TRUE(m.rope_scaling.has_value());
  EXPECT_EQ(m.rope_scaling->type, "llama3");
  EXPECT_EQ(m.rope_scaling->factor, 8);
  EXPECT_EQ(m.rope_scaling->high_freq_factor, 4);
  EXPECT_FALSE(m.attention_bias);
  EXPECT_TRUE(model(replaced(text, "\"attention_bias\": false", "\"attention_bias\": true")).attention_bias);
  EXPECT_EQ(model(replaced(text, "\"num_key_value_heads\": 8,", "")).num_key_value_heads, 32);
}

TEST_F(Configs, OfQwen2) {
  const std::string known = config_text("qwen2.5-7b");
  EXPECT_NE(error(replaced(known, "\"use_mrope\": false", "\"use_mrope\": true")).find("found the key `use_mrope`"),
            std::string::npos);
  const ModelSection m = model(known);
  EXPECT_EQ(m.head_dim, 128);
  EXPECT_FALSE(m.use_sliding_window);
  const ModelSection windowed =
      model(replaced(replaced(known, "\"use_sliding_window\": false", "\"use_sliding_window\": true"),
                     "\"max_window_layers\": 28", "\"max_window_layers\": 14"));
  EXPECT_TRUE(windowed.use_sliding_window);
  EXPECT_EQ(windowed.sliding_window, 131072);
  EXPECT_EQ(windowed.max_window_layers, 14);
  const ModelSection yarn = model(replaced(known, "\"rope_theta\"",
                                           "\"rope_scaling\": {\"factor\": 4.0, \"original_max_position_embeddings\": "
                                           "32768, \"type\": \"yarn\"}, \"rope_theta\""));
  ASSERT_TRUE(yarn.rope_scaling.has_value());
  EXPECT_EQ(yarn.rope_scaling->original_max_position_embeddings, 32768);
}

TEST_F(Configs, OfQwen3) {
  const ModelSection m = model(config_text("qwen3-0.6b"));
  EXPECT_TRUE(m.tie_word_embeddings);
  EXPECT_EQ(m.head_dim, 128);
  EXPECT_EQ(m.sliding_window, 0);
}

TEST_F(Configs, OfQwen3Moe) {
  const std::string text = config_text("qwen3-30b-a3b");
  const ModelSection m = model(text);
  EXPECT_EQ(m.n_routed_experts, 128);
  EXPECT_EQ(m.scoring_func, "softmax");
  EXPECT_TRUE(m.norm_topk_prob);
  const ModelSection sparse = model(replaced(replaced(text, "\"mlp_only_layers\": []", "\"mlp_only_layers\": [0, 7]"),
                                             "\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 2"));
  EXPECT_EQ(sparse.mlp_only_layers, (std::vector<std::int64_t>{0, 7}));
  EXPECT_EQ(sparse.decoder_sparse_step, 2);
  EXPECT_NE(error(replaced(text, "\"mlp_only_layers\": []", "\"mlp_only_layers\": [48]"))
                .find("expected blocks from 0 to 47"),
            std::string::npos);
  EXPECT_NE(error(replaced(text, "\"mlp_only_layers\": []", "\"mlp_only_layers\": [-1]"))
                .find("expected a list of whole numbers"),
            std::string::npos);
}

TEST_F(Configs, OfMixtral) {
  const std::string text = config_text("mixtral-8x7b");
  const ModelSection m = model(text);
  EXPECT_EQ(m.n_routed_experts, 8);
  EXPECT_EQ(m.moe_intermediate_size, 14336);
  EXPECT_TRUE(m.norm_topk_prob);
  EXPECT_FALSE(m.use_sliding_window);
  const ModelSection windowed = model(replaced(text, "\"sliding_window\": null", "\"sliding_window\": 4096"));
  EXPECT_TRUE(windowed.use_sliding_window);
  EXPECT_EQ(windowed.max_window_layers, 0);
  const ModelSection defaults =
      model(replaced(replaced(text, "\"rms_norm_eps\": 1e-05,", ""), "\"rope_theta\": 1000000.0,", ""));
  EXPECT_EQ(defaults.rms_norm_eps, 1e-5);
  EXPECT_EQ(defaults.rope_theta, 1e6);
}

/// transformers 5: one spelling of the number of experts, rotary parameters in one map, a word for each layer, what a
/// call returns.
TEST_F(Configs, OfTransformers5) {
  const std::string more =
      R"("chunk_size_feed_forward": 0, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "is_encoder_decoder": false,
    "output_attentions": false, "output_hidden_states": false, "problem_type": null, "return_dict": true, "dtype": null, "model_type")";
  std::string moe = replaced(config_text("qwen3-30b-a3b"), "\"num_experts\"", "\"num_local_experts\"");
  moe = replaced(replaced(moe, "\"rope_scaling\": null,",
                          "\"rope_parameters\": {\"rope_theta\": 12345.0, \"rope_type\": \"default\"},"),
                 "\"rope_theta\": 1000000.0,", "");
  const ModelSection m = model(replaced(moe, "\"model_type\"", more));
  EXPECT_EQ(m.n_routed_experts, 128);
  EXPECT_EQ(m.rope_theta, 12345);
  EXPECT_FALSE(m.rope_scaling.has_value());

  std::string qwen3 =
      replaced(config_text("qwen3-0.6b"), "\"num_hidden_layers\": 28",
               "\"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\", \"sliding_attention\"]");
  EXPECT_NE(error(qwen3).find("sliding_attention in `layer_types` without"), std::string::npos);
  qwen3 = replaced(replaced(qwen3, "\"sliding_window\": null", "\"sliding_window\": 64"),
                   "\"use_sliding_window\": false", "\"use_sliding_window\": true");
  EXPECT_EQ(model(qwen3).layer_types.back(), "sliding_attention");
  EXPECT_NE(error(replaced(qwen3, "\"full_attention\", ", "")).find("expected one for each of the 2 blocks"),
            std::string::npos);
  EXPECT_NE(error(replaced(qwen3, "\"full_attention\", ", "\"chunked_attention\", "))
                .find("expected a list of `full_attention`, `sliding_attention`"),
            std::string::npos);

  const std::string llama = replaced(
      replaced(config_text("llama-3.1-8b"), "\"rope_scaling\": {", "\"rope_parameters\": {\"rope_theta\": 500000.0, "),
      "\"rope_theta\": 500000.0,\n", "");
  EXPECT_EQ(model(llama).rope_theta, 500000);
  EXPECT_EQ(model(llama).rope_scaling->type, "llama3");
}

TEST_F(Configs, WhatChangesTheMathematicsAndIsNotBuiltIsRefused) {
  const std::string llama = config_text("llama-3.1-8b"), mixtral = config_text("mixtral-8x7b"),
                    qwen3 = config_text("qwen3-0.6b");
  struct Row {
    const std::string& text;
    std::string from, to, expected;
  };
  for (const Row& row :
       {Row{llama, "\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"",
            "found the text \"gelu\" as `model.hidden_act`"},
        Row{llama, "\"mlp_bias\": false", "\"mlp_bias\": true", "found true as `model.mlp_bias`"},
        Row{llama, "\"attention_dropout\": 0.0", "\"attention_dropout\": 0.1", "as `model.attention_dropout`"},
        Row{llama, "\"rope_type\": \"llama3\"", "\"rope_type\": \"longrope\"",
            "found the text \"longrope\" as `model.rope_scaling.type`"},
        Row{llama, "\"rope_type\": \"llama3\"", "\"rope_type\": \"llama3\", \"type\": \"yarn\"",
            "unknown key `rope_type`"},
        Row{llama, "\"low_freq_factor\": 1.0,", "", "found no `low_freq_factor`"},
        Row{llama, "\"low_freq_factor\": 1.0", "\"low_freq_factor\": 4.0", "expected more than the 4"},
        Row{llama, "\"low_freq_factor\": 1.0", "\"low_freq_factor\": 1.0, \"beta_fast\": 16", "found keys of yarn"},
        Row{llama, "\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"", "found keys of llama3"},
        Row{llama, "\"use_cache\": true", "\"is_encoder_decoder\": true", "found the key `is_encoder_decoder`"},
        Row{llama, "\"use_cache\": true", "\"partial_rotary_factor\": 0.5", "found the key `partial_rotary_factor`"},
        Row{llama, "\"use_cache\": true", "\"sliding_window\": 4096", "found the key `sliding_window`"},
        Row{llama, "\"num_key_value_heads\": 8", "\"num_key_value_heads\": 5", "expected a divisor of the 32"},
        Row{llama, "\"hidden_size\": 4096", "\"hidden_size\": 4100", "expected a multiple of the 32"},
        Row{mixtral, "\"use_cache\": true", "\"router_jitter_noise\": 0.1", "as `model.router_jitter_noise`"},
        Row{mixtral, "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9", "8 experts of `num_local_experts`"},
        Row{qwen3, "\"use_sliding_window\": false", "\"use_sliding_window\": true", "and no `sliding_window`"},
        Row{qwen3, "\"model_type\": \"qwen3\"", "\"model_type\": \"qwen3_next\"",
            "found the text \"qwen3_next\" as `model.model_type`"}}) {
    const std::string found = error(replaced(row.text, row.from, row.to));
    EXPECT_NE(found.find(row.expected), std::string::npos) << row.to << ": " << found;
  }
}

/// A recipe may write what config.json writes.
TEST(Spelling, OfTheRotaryEmbeddingInARecipe) {
  for (const char* rope :
       {"rope_scaling: {rope_type: yarn, factor: 2, original_max_position_embeddings: 32}",
        "rope_parameters: {type: yarn, factor: 2, original_max_position_embeddings: 32, rope_theta: 777}"}) {
    const Recipe r = parse_recipe(replaced(testing::small_recipe(), "  max_position_embeddings: 64\n",
                                           std::string("  max_position_embeddings: 64\n  ") + rope + "\n"));
    ASSERT_TRUE(r.model.rope_scaling.has_value());
    EXPECT_EQ(r.model.rope_scaling->factor, 2);
    EXPECT_EQ(r.model.rope_theta, std::string(rope).find("777") == std::string::npos ? 10000 : 777);
  }
}

}  // namespace
}  // namespace fourmi
