// The published architectures, counted by the table that training uses.
#include "framework/model/counts.h"

#include <gtest/gtest.h>

#include "framework/recipe/read.h"

namespace fourmi {
namespace {

ModelCounts counts_of(const std::string& recipe, std::int64_t sequence_length) {
  const Recipe r = load_recipe(std::string(FOURMI_SOURCE_DIR) + "/recipes/" + recipe + ".yaml");
  const ParameterTable table(r.model);
  return count_model(r.model, table, sequence_length);
}

TEST(Counts, PublishedArchitectures) {
  struct Row {
    const char* recipe;
    double total, active, total_error, active_error;  // 1e9
  };
  for (const Row& row :
       {Row{"deepseek-v3", 671.026, 37.55, 0.0005, 0.005}, Row{"deepseek-v2-lite", 15.706, 2.66, 0.0005, 0.005},
        Row{"moonlight-16b-a3b", 15.960, 2.91, 0.0005, 0.005}, Row{"qwen3-30b-a3b", 30.532, 3.353, 0.0005, 0.0005},
        Row{"kimi-k2", 1026.4, 32.86, 0.05, 0.005}}) {
    const ModelCounts c = counts_of(row.recipe, 4096);
    EXPECT_NEAR(static_cast<double>(c.parameters_total) / 1e9, row.total, row.total_error) << row.recipe;
    EXPECT_NEAR(static_cast<double>(c.parameters_active) / 1e9, row.active, row.active_error) << row.recipe;
  }
}

/// Released models by their config.json, to the parameter.
TEST(Counts, ReleasedConfigsToTheParameter) {
  for (auto [config, total] : {std::pair{"llama-3.1-8b", 8030261248},
                               {"qwen2.5-7b", 7615616512},
                               {"qwen3-0.6b", 596049920},
                               {"qwen3-30b-a3b", 30532122624},
                               {"mixtral-8x7b", 46702792704}}) {
    const std::string folder = std::string(FOURMI_SOURCE_DIR) + "/tests/recipe/configs/";
    const Recipe r = parse_recipe(fmt::format(
        "run: {{name: x, steps: 1}}\nmodel: {{config: {}{}.json}}\ndata: {{sequence_length: 16, global_batch_size: 1, "
        "train: [{{name: s, format: synthetic}}]}}\n",
        folder, config));
    const ParameterTable table(r.model);
    EXPECT_EQ(count_model(r.model, table, 4096).parameters_total, total) << config;
  }
}

TEST(Counts, WorkOfAWindowAndOfTiedEmbeddings) {
  ModelSection m;
  m.model_type = "qwen2", m.vocab_size = 100, m.hidden_size = 8, m.num_hidden_layers = 2, m.intermediate_size = 10;
  m.num_attention_heads = 2, m.num_key_value_heads = 1, m.head_dim = 4;
  const double layer = 8 * (8 + 4 + 4) + 8 * 8 + 3 * 8 * 10, head = 100 * 8, T = 64, pair = 2 * 2 * (4 + 4);
  const auto work = [&] { return count_model(m, ParameterTable(m), 64).flops_per_token; };
  EXPECT_DOUBLE_EQ(work(), 3 * (2 * (2 * layer + head) + 2 * pair * T / 2));
  EXPECT_DOUBLE_EQ(count_model(m, ParameterTable(m), 64).flops_scaled, 3 * 2 * 2 * layer);
  m.tie_word_embeddings = true;
  EXPECT_DOUBLE_EQ(work(), 3 * (2 * (2 * layer + head) + 2 * pair * T / 2));
  m.use_sliding_window = true, m.sliding_window = 16, m.max_window_layers = 1;
  EXPECT_DOUBLE_EQ(work(), 3 * (2 * (2 * layer + head) + pair * (T / 2 + 16 - 16 * 16 / (2 * T))));
  m.sliding_window = 64;
  EXPECT_DOUBLE_EQ(work(), 3 * (2 * (2 * layer + head) + 2 * pair * T / 2));
}

TEST(Counts, DeepSeekV3WorkAndMtp) {
  const ModelCounts c = counts_of("deepseek-v3", 4096);
  EXPECT_NEAR(c.flops_per_token / 1e9, 250.4, 0.05);
  EXPECT_NEAR(static_cast<double>(c.parameters_mtp) / 1e9, 11.61, 0.005);
  EXPECT_GT(c.flops_per_token_mtp, 0);
  // What FP8 formats leave to others: the router (59 layers' weights), the head for both predictions, attention.
  const double head = 129280.0 * 7168, attention = 62 * 128 * (192 + 128) * 2048.0;
  EXPECT_DOUBLE_EQ(c.flops_router, 3 * 2 * 59 * 256.0 * 7168);
  EXPECT_NEAR(
      (c.flops_scaled + c.flops_router + 3 * 2 * (2 * head + attention)) / (c.flops_per_token + c.flops_per_token_mtp),
      1, 1e-12);
}

}  // namespace
}  // namespace fourmi
