// The published architectures, counted by the table that training uses.
#include <gtest/gtest.h>

#include "framework/model/counts.h"
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
  for (const Row& row : {Row{"deepseek-v3", 671.026, 37.55, 0.0005, 0.005}, Row{"deepseek-v2-lite", 15.706, 2.66, 0.0005, 0.005},
                         Row{"moonlight-16b-a3b", 15.960, 2.91, 0.0005, 0.005}, Row{"qwen3-30b-a3b", 30.532, 3.353, 0.0005, 0.0005},
                         Row{"kimi-k2", 1026.4, 32.86, 0.05, 0.005}}) {
    const ModelCounts c = counts_of(row.recipe, 4096);
    EXPECT_NEAR(static_cast<double>(c.parameters_total) / 1e9, row.total, row.total_error) << row.recipe;
    EXPECT_NEAR(static_cast<double>(c.parameters_active) / 1e9, row.active, row.active_error) << row.recipe;
  }
}

TEST(Counts, DeepSeekV3WorkAndMtp) {
  const ModelCounts c = counts_of("deepseek-v3", 4096);
  EXPECT_NEAR(c.flops_per_token / 1e9, 250.4, 0.05);
  EXPECT_NEAR(static_cast<double>(c.parameters_mtp) / 1e9, 11.61, 0.005);
  EXPECT_GT(c.flops_per_token_mtp, 0);
}

}  // namespace
}  // namespace fourmi
