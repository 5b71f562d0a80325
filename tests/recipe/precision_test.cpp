// Precisions whose elements share scales: sizes and cuts fall on blocks of 128, or the recipe is refused with the next
// size that fits.
#include <gtest/gtest.h>

#include "framework/recipe/cut_units.h"
#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::issues_of;

/// What fits of the small recipe's sizes.
std::vector<std::string> in_blocks(std::vector<std::string> more = {}) {
  std::vector<std::string> all{"precision.compute=fp8-block", "model.hidden_size=128",
                               "model.q_lora_rank=128",       "model.moe_intermediate_size=256",
                               "model.qk_nope_head_dim=64",   "model.qk_rope_head_dim=64",
                               "model.v_head_dim=64",         "model.intermediate_size=256"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string only_issue(const std::vector<std::string>& overrides) {
  const auto issues = issues_of(testing::small_recipe(), overrides);
  return issues.size() == 1 ? issues[0].text() : fmt::format("{} issues", issues.size());
}

TEST(Precision, BlocksAreAskedOfEverySizeThatIsCutOrStacked) {
  EXPECT_TRUE(issues_of(testing::small_recipe(), in_blocks()).empty());
  const std::string expected =
      "expected a multiple of 128 columns, which share a scale in `precision.compute`; the next is ";
  for (const auto& [key, found, next] : {std::tuple{"hidden_size", 200, 256},
                                         {"intermediate_size", 300, 384},
                                         {"moe_intermediate_size", 64, 128},
                                         {"q_lora_rank", 130, 256}}) {
    const std::string text = only_issue(in_blocks({fmt::format("model.{}={}", key, found)}));
    EXPECT_NE(text.find(fmt::format("found {} ({} columns), {}{}", found, found, expected, next)), std::string::npos)
        << text;
  }
  // mxfp8 shares a scale among 32.
  EXPECT_TRUE(issues_of(testing::small_recipe(),
                        in_blocks({"precision.compute=mxfp8", "model.hidden_size=96", "model.q_lora_rank=32"}))
                  .empty());
  const std::string narrow = only_issue(in_blocks({"precision.compute=mxfp8", "model.q_lora_rank=48"}));
  EXPECT_NE(
      narrow.find("expected a multiple of 32 columns, which share a scale in `precision.compute`; the next is 64"),
      std::string::npos)
      << narrow;
  // The same sizes are no matter to others.
  EXPECT_TRUE(issues_of(testing::small_recipe(), {"model.moe_intermediate_size=64", "model.hidden_size=200"}).empty());
  // No dense layer: its size is not used.
  EXPECT_TRUE(
      issues_of(testing::small_recipe(), in_blocks({"model.intermediate_size=300", "model.first_k_dense_replace=0"}))
          .empty());
}

TEST(Precision, NoAxisCutsABlock) {
  // 4 heads of 64 + 64 columns, of which two make a block of values.
  EXPECT_TRUE(issues_of(testing::small_recipe(), in_blocks({"parallel.tensor=2"})).empty());
  const std::string heads = only_issue(in_blocks({"parallel.tensor=4"}));
  EXPECT_NE(heads.find("expected 1 or 2 (num_attention_heads is 4: 2 blocks of 128 columns)"), std::string::npos)
      << heads;
  const std::string columns = only_issue(in_blocks({"parallel.tensor=2", "model.intermediate_size=128"}));
  EXPECT_NE(columns.find("expected 1 (intermediate_size is 128: 1 blocks of 128 columns)"), std::string::npos)
      << columns;
  EXPECT_TRUE(issues_of(testing::small_recipe(),
                        in_blocks({"precision.compute=mxfp8", "parallel.tensor=4", "model.intermediate_size=128"}))
                  .empty());
  const std::string narrow =
      only_issue(in_blocks({"precision.compute=mxfp8", "parallel.tensor=4", "model.intermediate_size=64"}));
  EXPECT_NE(narrow.find("expected 1 or 2 (intermediate_size is 64: 2 blocks of 32 columns)"), std::string::npos)
      << narrow;
  EXPECT_TRUE(issues_of(testing::small_recipe(), in_blocks({"parallel.expert_tensor=2"})).empty());
  const std::string experts = only_issue(in_blocks({"parallel.expert_tensor=4"}));
  EXPECT_NE(experts.find("(moe_intermediate_size is 256, cut in blocks of 128, which share a scale)"),
            std::string::npos)
      << experts;
}

TEST(Precision, DispatchInEightBitsAsksForScales) {
  EXPECT_TRUE(issues_of(testing::small_recipe(), in_blocks({"precision.dispatch=fp8"})).empty());
  const std::string text = only_issue({"precision.dispatch=fp8"});
  EXPECT_NE(text.find("found fp8, expected bf16"), std::string::npos) << text;
  const std::string tensor = only_issue(in_blocks({"precision.dispatch=fp8", "precision.compute=fp8-tensor"}));
  EXPECT_NE(tensor.find("found fp8 with `fp8-tensor`, expected bf16"), std::string::npos) << tensor;
  const std::string square = only_issue(in_blocks({"precision.dispatch=fp8", "precision.gradient_block=128x128"}));
  EXPECT_NE(square.find("found fp8 with `gradient_block: 128x128`, expected bf16"), std::string::npos) << square;
}

/// A scale of all that a rank quantises is another where ranks have other rows.
TEST(Precision, OneScaleATensorHasNoModeLayout) {
  EXPECT_TRUE(issues_of(testing::small_recipe(), in_blocks({"precision.compute=fp8-tensor"})).empty());
  const std::string text = only_issue(in_blocks({"precision.compute=fp8-tensor", "run.reproducibility=layout"}));
  EXPECT_NE(text.find("found `fp8-tensor` in mode `layout`, expected `fp8-block` or `mxfp8`, or mode `run`"),
            std::string::npos)
      << text;
  for (const char* compute : {"fp8-block", "mxfp8"})
    EXPECT_TRUE(issues_of(testing::small_recipe(),
                          in_blocks({fmt::format("precision.compute={}", compute), "run.reproducibility=layout"}))
                    .empty());
}

TEST(Precision, ScalesAndBlocksOfGradientsFitThePrecision) {
  for (const char* fits : {"precision.compute=fp8-block", "precision.compute=fp8-tensor", "precision.compute=bf16"})
    EXPECT_TRUE(issues_of(testing::small_recipe(), in_blocks({fits, "precision.scale_format=fp32"})).empty()) << fits;
  const std::string exponents = only_issue(in_blocks({"precision.compute=mxfp8", "precision.scale_format=fp32"}));
  EXPECT_NE(exponents.find("found `fp32` with `mxfp8`, which stores exponents, expected `ue8m0`"), std::string::npos)
      << exponents;
  const std::string squares = "precision.gradient_block=128x128";
  EXPECT_TRUE(issues_of(testing::small_recipe(), in_blocks({squares})).empty());
  EXPECT_TRUE(issues_of(testing::small_recipe(), in_blocks({squares, "precision.compute=bf16"})).empty());
  for (const char* compute : {"fp8-tensor", "mxfp8"}) {
    const std::string text = only_issue(in_blocks({squares, fmt::format("precision.compute={}", compute)}));
    EXPECT_NE(text.find(fmt::format("found `128x128` with `{}`, expected `1x128`, or `fp8-block`", compute)),
              std::string::npos)
        << text;
  }
  const std::string layout = only_issue(in_blocks({squares, "run.reproducibility=layout"}));
  EXPECT_NE(layout.find("found `128x128` in mode `layout`, expected `1x128`, or mode `run`"), std::string::npos)
      << layout;
  const Recipe r = parse_recipe(testing::small_recipe(), "recipe", in_blocks({squares, "precision.scale_format=fp32"}));
  EXPECT_EQ(r.precision.gradient_block, GradientBlock::square);
  EXPECT_EQ(r.precision.scale_format, ScaleFormat::fp32);
  EXPECT_EQ(parse_recipe(to_yaml(r)).precision, r.precision);
}

TEST(Precision, UnitsAreWholeBlocks) {
  ModelSection m;
  m.num_attention_heads = 128, m.kv_lora_rank = 512;
  m.qk_nope_head_dim = 128, m.qk_rope_head_dim = 64, m.v_head_dim = 128;  // DeepSeek-V3
  EXPECT_EQ(head_units(m, Compute::bf16), 128);
  EXPECT_EQ(head_units(m, Compute::fp8_block), 64);
  m.num_attention_heads = 3;
  EXPECT_EQ(head_units(m, Compute::fp8_block), 0);
  m = {};
  m.num_attention_heads = 32, m.num_key_value_heads = 4, m.head_dim = 64;
  EXPECT_EQ(head_units(m, Compute::bf16), 4);
  EXPECT_EQ(head_units(m, Compute::fp8_block), 2);
  EXPECT_EQ(column_units(384, Reproducibility::run, Compute::bf16), 384);
  EXPECT_EQ(column_units(384, Reproducibility::layout, Compute::bf16), 24);
  EXPECT_EQ(column_units(384, Reproducibility::run, Compute::fp8_block), 3);
  EXPECT_EQ(column_units(200, Reproducibility::run, Compute::fp8_block), 0);
  EXPECT_EQ(column_units(96, Reproducibility::layout, Compute::mxfp8), 3);
  EXPECT_EQ(column_units(200, Reproducibility::run, Compute::mxfp8), 0);
}

TEST(Precision, IsWrittenAsItIsRead) {
  for (const char* name : {"fp32", "bf16", "fp8-block", "fp8-tensor", "mxfp8"}) {
    const Recipe r =
        parse_recipe(testing::small_recipe(), "recipe", in_blocks({fmt::format("precision.compute={}", name)}));
    EXPECT_NE(to_yaml(r).find(name), std::string::npos);
    EXPECT_EQ(parse_recipe(to_yaml(r)).precision, r.precision);
  }
}

}  // namespace
}  // namespace fourmi
