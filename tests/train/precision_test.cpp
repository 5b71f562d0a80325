// Eight bits in linear maps and experts: near bf16, and as exact as the other precisions in all that is promised to the
// bit (docs/precision.md). Layouts are in tests/layouts/matrix_test.cpp.
#include <gtest/gtest.h>

#include <set>

#include "tests/train/blocks.h"
#include "tests/train/family_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

Recipe latent(const PrecisionSection& precision, Reproducibility mode = Reproducibility::run) {
  return with_precision(in_blocks(small_recipe(Compute::bf16, mode, 2)), precision);
}
Recipe grouped(const PrecisionSection& precision, Reproducibility mode = Reproducibility::run) {
  return with_precision(in_blocks(family_recipe(dense_family, Compute::bf16, mode, 2)), precision);
}
constexpr std::pair<const char*, Recipe (*)(const PrecisionSection&, Reproducibility)> families[] = {
    {"latent", latent}, {"grouped", grouped}};
const PrecisionSection fp32{.compute = Compute::fp32}, bf16{.compute = Compute::bf16},
    block{.compute = Compute::fp8_block};

/// All of them.
std::vector<std::pair<const char*, PrecisionSection>> all_of_eight() {
  std::vector all(std::begin(precisions_of_eight), std::end(precisions_of_eight));
  all.insert(all.end(), std::begin(precisions_with_fp32_scales), std::end(precisions_with_fp32_scales));
  return all;
}

/// Elements of e4m3 are rounded to 2^-4 of themselves, those of bf16 to 2^-9: so much farther from fp32 may a gradient
/// be, of every tensor alike. (What is wrong, and not rounded, is as far as the gradient is long.)
TEST(Eight, GradientsAreAsFarAsItsRounding) {
  for (const auto& [name, family] : families) {
    const RunResult exact = train_on(family(fp32, Reproducibility::run), 1, 1),
                    two_bytes = train_on(family(bf16, Reproducibility::run), 1, 1);
    std::set<double> norms;
    for (const auto& [precision, section] : all_of_eight()) {
      const RunResult eight = train_on(family(section, Reproducibility::run), 1, 1);
      EXPECT_TRUE(norms.insert(eight.steps[0].grad_norm).second) << name << ", " << precision << " is another's";
      EXPECT_NEAR(eight.steps[0].loss, exact.steps[0].loss, 0.01 * exact.steps[0].loss) << name << ", " << precision;
      for (const auto& [tensor, values] : exact.gradients) {
        const double near = relative_error(values, two_bytes.gradients.at(tensor)),
                     far = relative_error(values, eight.gradients.at(tensor));
        EXPECT_LT(far, std::min(32 * near, 0.9)) << name << ", " << precision << ": " << tensor;
        EXPECT_GT(far, near) << name << ", " << precision << ": " << tensor;
      }
    }
  }
}

TEST(Eight, Learns) {
  const auto last = [](const RunResult& r) {
    double sum = 0;
    for (std::size_t i = 20; i < 30; ++i) sum += r.steps[i].loss / 10;
    return sum;
  };
  const double near = last(train_on(latent(bf16), 1, 30));
  for (const auto& [precision, section] : precisions_of_eight) {
    const RunResult eight = train_on(latent(section), 1, 30);
    EXPECT_LT(last(eight), eight.steps[0].loss * 0.95) << precision;
    EXPECT_NEAR(last(eight), near, 0.1 * near) << precision;
  }
}

TEST(Eight, RecomputationGivesTheBitsOfARunThatKeepsAll) {
  for (const auto& [name, family] : families)
    for (const auto& [precision, section] : precisions_of_eight)
      for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout}) {
        if (family == grouped && section.compute != Compute::fp8_block && section.compute != Compute::fp8_tensor)
          continue;
        if (mode == Reproducibility::layout ? !has_mode_layout(section) : section.compute == Compute::mxfp8) continue;
        Recipe recipe = family(section, mode);
        const RunResult kept = train_on(recipe, 1, 2);
        for (Recompute recompute : {Recompute::selective, Recompute::full}) {
          recipe.memory.recompute = recompute;
          expect_equal_bits(kept, train_on(recipe, 1, 2),
                            fmt::format("{}, {}, {}", name, precision, static_cast<int>(recompute)));
        }
        recipe.memory.recompute = Recompute::none;
        expect_equal_bits(kept, train_on(recipe, 1, 2, 2), fmt::format("{}, {}, two threads", name, precision));
      }
}

/// All-to-all by all ranks, in bytes: of rows to experts, and of gradients to their owners.
std::int64_t all_to_all_bytes(const RunResult& run) {
  std::int64_t bytes = 0;
  for (const auto& rank : run.traffic)
    for (const GroupTraffic& g : rank) bytes += g.by_call[static_cast<std::size_t>(Call::all_to_all)].bytes;
  return bytes;
}

TEST(Eight, DispatchedGradientsTakeHalfTheBytes) {
  Recipe recipe = latent(block);
  recipe.model.hidden_size = 512;
  recipe.parallel.expert = 2;
  const RunResult wide = train_on(recipe, 2, 1);
  recipe.precision.dispatch = DispatchFormat::fp8;
  const RunResult narrow = train_on(recipe, 2, 1);
  // The first forward is the same, and so are the rows that travel.
  EXPECT_EQ(narrow.steps[0].loss, wide.steps[0].loss);
  EXPECT_NE(narrow.steps[0].grad_norm, wide.steps[0].grad_norm);
  const std::int64_t saved = all_to_all_bytes(wide) - all_to_all_bytes(narrow),
                     row = 2 * 512 - ScaledFormat::row_bytes(DType::e4m3_rows, 512);
  EXPECT_EQ(row, 1024 - 528);  // 0.516
  EXPECT_EQ(saved % row, 0);
  // Of each token of three layers at most one row leaves for the other rank.
  const std::int64_t most = 3 * recipe.data.global_batch_size.at(0) * recipe.data.sequence_length;
  EXPECT_GT(saved / row, most / 4);
  EXPECT_LE(saved / row, most);
}

TEST(Eight, MemoryIsWhatMeasuringTold) {
  for (const auto& [name, family] : families)
    for (const auto& [precision, section] : precisions_of_eight)
      for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
        Recipe recipe = family(section, Reproducibility::run);
        recipe.memory.recompute = recompute;
        EXPECT_EQ(train_on(recipe, 1, 2).memory[0], Engine::measure(recipe, 1)) << name << ", " << precision;
      }
}

/// The copies for products over the other dim: an element and, for 32 of them, four bytes.
TEST(Eight, MicroscalingHasTwoCopiesOfAMatrix) {
  const auto weights = [](const PrecisionSection& p) {
    for (const auto& [arena, bytes] : Engine::measure(latent(p), 1))
      if (std::string_view(arena) == "weights") return bytes;
    return std::int64_t{0};
  };
  std::int64_t matrices = 0, two_copies = 0;
  const ParameterTable table(latent(bf16).model);
  for (const Parameter& p : table.all())
    if (p.is_map) {
      matrices += p.shape.num_elements();
      two_copies += bytes_of(DType::mxe4m3_rows, p.shape) + p.shape[1] * (p.shape[0] + (p.shape[0] + 31) / 32 * 4);
    }
  const std::int64_t padding = 3 * 4096;
  EXPECT_NEAR(static_cast<double>(weights({.compute = Compute::mxfp8}) - weights(bf16)),
              static_cast<double>(two_copies), static_cast<double>(padding));
  EXPECT_GT(two_copies, 2 * matrices + padding);
  EXPECT_NEAR(static_cast<double>(weights(block) - weights(bf16)) / static_cast<double>(matrices), 1, 0.01);
}

/// Groups of 32 end where those of 128 would not.
TEST(Eight, MicroscalingNeedsNoMoreThanMultiplesOf32) {
  const auto narrow = [](const PrecisionSection& precision, Reproducibility mode) {
    Recipe r = latent(precision, mode);
    ModelSection& m = r.model;
    m.hidden_size = 96, m.intermediate_size = 160, m.moe_intermediate_size = 32, m.q_lora_rank = 32;
    m.kv_lora_rank = 40, m.qk_nope_head_dim = 24, m.qk_rope_head_dim = 8, m.v_head_dim = 16;
    return r;
  };
  for (const Reproducibility mode : {Reproducibility::run, Reproducibility::layout}) {
    const RunResult exact = train_on(narrow(fp32, mode), 1, 1),
                    eight = train_on(narrow({.compute = Compute::mxfp8}, mode), 1, 1);
    EXPECT_NEAR(eight.steps[0].loss, exact.steps[0].loss, 0.01 * exact.steps[0].loss);
    for (const auto& [tensor, values] : exact.gradients)
      EXPECT_LT(relative_error(values, eight.gradients.at(tensor)), 0.9) << tensor;
  }
}

}  // namespace
}  // namespace fourmi
