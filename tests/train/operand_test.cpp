// Who looks at operands sees those of every matrix, as products read them, and may change them.
#include <gtest/gtest.h>

#include <set>

#include "tests/train/blocks.h"
#include "tests/train/family_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

using Seen = std::set<std::tuple<std::int64_t, OperandRole, DType, std::int64_t>>;  // matrix, role, dtype, columns

Recipe family_of(const std::string& family, Compute compute) {
  const Recipe r = !family.empty() ? family_recipe(family, compute, Reproducibility::run, 2)
                                   : small_recipe(compute, Reproducibility::run, 2);
  return in_blocks(r);
}

Seen seen_in_a_step(const Recipe& recipe) {
  Seen seen;
  train_on(recipe, 1, 1, 1, [&](Engine& engine) {
    engine.set_operand_probe([&](const Slot& w, OperandRole role, const Tensor& x) {
      EXPECT_GT(x.dim(0), 0);
      seen.emplace(w.offset, role, x.dtype, x.dim(1));
      EXPECT_EQ(x.dim(1), w.shape[w.shape.rank - (role == OperandRole::activation ? 1 : 2)]);
    });
  });
  return seen;
}

TEST(Operands, OfEveryMatrixAreSeenAsItsProductsReadThem) {
  for (const std::string& family : {std::string(), std::string(dense_family)}) {
    const Seen eight = seen_in_a_step(family_of(family, Compute::fp8_block)),
               bf16 = seen_in_a_step(family_of(family, Compute::bf16));
    // A matrix or several that are read together, each with both operands.
    std::set<std::int64_t> activations, gradients;
    for (const auto& [offset, role, dtype, columns] : eight) {
      EXPECT_EQ(dtype, DType::e4m3_rows) << offset;
      (role == OperandRole::activation ? activations : gradients).insert(offset);
      EXPECT_TRUE(bf16.contains({offset, role, DType::bf16, columns})) << offset;
    }
    EXPECT_EQ(bf16.size(), eight.size());
    EXPECT_FALSE(activations.empty());
    // What several matrices read is told of one of them.
    for (std::int64_t offset : activations) EXPECT_TRUE(gradients.contains(offset)) << offset;
    const ParameterTable table(family_of(family, Compute::bf16).model);
    for (const char* last : {"q_a_proj.weight", "q_proj.weight", "o_proj.weight", "kv_b_proj.weight", "eh_proj.weight",
                             "down_proj.weight"})
      for (const Parameter& p : table.all())
        if (p.name.ends_with(last) && p.is_map &&
            (!p.routed_expert || p.name.find("experts.0.") != std::string::npos)) {
          EXPECT_TRUE(activations.contains(p.offset)) << p.name;
          EXPECT_TRUE(gradients.contains(p.offset)) << p.name;
        }
  }
}

TEST(Operands, MayBeChanged) {
  const Recipe recipe = family_of("", Compute::fp8_block);
  const RunResult clean = train_on(recipe, 1, 2);
  expect_equal_bits(
      clean,
      train_on(recipe, 1, 2, 1, [](Engine& e) { e.set_operand_probe([](const Slot&, OperandRole, const Tensor&) {}); }),
      "a look");
  for (OperandRole role : {OperandRole::activation, OperandRole::gradient}) {
    const RunResult spoiled = train_on(recipe, 1, 1, 1, [&](Engine& e) {
      const Slot w = e.store().slot("model.layers.1.self_attn.o_proj.weight");
      e.set_operand_probe([=](const Slot& of, OperandRole what, const Tensor& x) {
        if (of.offset != w.offset || what != role) return;
        for (std::int64_t r = 0; r < x.dim(0); ++r)
          std::memset(x.rows(r, r + 1).data, 0, static_cast<std::size_t>(x.dim(1)));
      });
    });
    EXPECT_EQ(spoiled.steps[0].loss != clean.steps[0].loss, role == OperandRole::activation);
    for (double g : spoiled.gradients.at("model.layers.1.self_attn.o_proj.weight")) ASSERT_EQ(g, 0);
  }
}

}  // namespace
}  // namespace fourmi
