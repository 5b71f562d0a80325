// Who shares a scale: of every operand and every matrix of a step, by precision (docs/precision.md).
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <set>

#include "kernels/ops/linear.h"
#include "kernels/ops/quantize.h"
#include "tests/train/blocks.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

float load(const std::uint8_t* at) {
  float scale;
  std::memcpy(&scale, at, sizeof(scale));
  return scale;
}

/// Of e4m3_rows [rows][blocks].
std::vector<std::vector<float>> scales_of_rows(const Tensor& q) {
  const std::int64_t K = q.dim(1), blocks = ScaledFormat::num_blocks(K);
  std::vector<std::vector<float>> scales;
  for (std::int64_t r = 0; r < q.dim(0); ++r) {
    const auto* row = static_cast<const std::uint8_t*>(q.data) + r * ScaledFormat::row_bytes(q.dtype, K) + K;
    scales.emplace_back();
    for (std::int64_t b = 0; b < blocks; ++b) scales.back().push_back(load(row + 4 * b));
  }
  return scales;
}

/// Of e4m3_panels [N, K], all.
std::set<float> scales_of_panels(const Tensor& q) {
  const std::int64_t N = q.dim(0), K = q.dim(1), blocks = ScaledFormat::num_blocks(K);
  std::set<float> scales;
  for (std::int64_t first = 0; first < N; first += ScaledFormat::block) {
    const std::int64_t rows = std::min(ScaledFormat::block, N - first);
    const auto* panel = static_cast<const std::uint8_t*>(q.data) + ScaledFormat::panel_bytes(first, K);
    for (std::int64_t b = 0; b < blocks; ++b) scales.insert(load(panel + rows * K + 4 * b));
  }
  return scales;
}

/// What was seen of a step's scales.
struct Shares {
  bool one_each_operand = true, one_each_matrix = true;  ///< a scale for all of it
  bool gradients_by_square = true, activations_by_square = true;
  bool powers_of_two = true;
  void see(float scale) {
    int exponent = 0;
    powers_of_two &= std::frexp(scale, &exponent) == 0.5F;
  }
};

Shares shares_of(const PrecisionSection& precision) {
  Recipe recipe = with_precision(in_blocks(small_recipe(Compute::bf16, Reproducibility::run, 2)), precision);
  recipe.model.hidden_size = 256;
  Shares s;
  train_on(recipe, 1, 1, 1, [&](Engine& engine) {
    for (const Parameter& p : engine.store().table().all()) {
      if (!p.is_map) continue;
      const std::set<float> scales = scales_of_panels(engine.store().matrix(engine.store().slot(p.name)));
      s.one_each_matrix &= scales.size() == 1;
      for (const float scale : scales) s.see(scale);
    }
    engine.set_operand_probe([&](const Slot&, OperandRole role, const Tensor& x) {
      const auto rows = scales_of_rows(x);
      bool& square = role == OperandRole::gradient ? s.gradients_by_square : s.activations_by_square;
      for (std::size_t r = 0; r < rows.size(); ++r)
        for (std::size_t b = 0; b < rows[r].size(); ++b) {
          s.see(rows[r][b]);
          s.one_each_operand &= rows[r][b] == rows[0][0];
          square &= rows[r][b] == rows[r / 128 * 128][b];
        }
    });
  });
  return s;
}

TEST(Scales, AreSharedAsThePrecisionSays) {
  for (const ScaleFormat format : {ScaleFormat::ue8m0, ScaleFormat::fp32}) {
    const bool powers = format == ScaleFormat::ue8m0;
    const Shares block = shares_of({.compute = Compute::fp8_block, .scale_format = format});
    EXPECT_FALSE(block.one_each_operand || block.one_each_matrix);
    EXPECT_FALSE(block.gradients_by_square || block.activations_by_square);
    EXPECT_EQ(block.powers_of_two, powers);
    const Shares tensor = shares_of({.compute = Compute::fp8_tensor, .scale_format = format});
    EXPECT_TRUE(tensor.one_each_operand && tensor.one_each_matrix);
    EXPECT_EQ(tensor.powers_of_two, powers);
    const Shares square =
        shares_of({.compute = Compute::fp8_block, .scale_format = format, .gradient_block = GradientBlock::square});
    EXPECT_FALSE(square.one_each_operand || square.one_each_matrix || square.activations_by_square);
    EXPECT_TRUE(square.gradients_by_square);
    EXPECT_EQ(square.powers_of_two, powers);
  }
}

/// Columns keep a scale that all rows have; others are found anew.
TEST(Scales, OfColumnsFollowThoseOfRows) {
  const auto of = [](Compute compute, ScaleFormat format) {
    return model_types({.compute = compute, .scale_format = format}, Reproducibility::run).column_scale;
  };
  for (const ScaleFormat format : {ScaleFormat::ue8m0, ScaleFormat::fp32})
    EXPECT_EQ(of(Compute::fp8_tensor, format), ColumnScale::largest);
  EXPECT_EQ(of(Compute::fp8_block, ScaleFormat::fp32), ColumnScale::f32);
  EXPECT_EQ(of(Compute::fp8_block, ScaleFormat::ue8m0), ColumnScale::power_of_two);
  EXPECT_EQ(of(Compute::mxfp8, ScaleFormat::ue8m0), ColumnScale::power_of_two);
}

/// A copy of an operand.
struct Operand {
  std::vector<std::byte> bytes;
  Tensor tensor;
  explicit Operand(const Tensor& x)
      : bytes(static_cast<const std::byte*>(x.data), static_cast<const std::byte*>(x.data) + x.bytes()),
        tensor(bytes.data(), x.dtype, x.shape) {}
};

/// dw += dy^T x from columns of so many rows.
void add_by_columns(const Operand& dy, const Operand& x, std::int64_t group_rows, ColumnScale rule,
                    std::vector<float>& dw) {
  ThreadPool pool(1);
  const Stream stream(pool);
  const std::int64_t M = x.tensor.dim(0), groups = (M + group_rows - 1) / group_rows;
  std::vector<std::uint8_t> elements[2];
  std::vector<float> scales[2];
  const auto columns = [&](std::size_t i, const Tensor& q) -> ColumnScaled {
    const std::int64_t K = q.dim(1);
    elements[i].resize(static_cast<std::size_t>(M * K)), scales[i].resize(static_cast<std::size_t>(groups * K));
    ColumnScaled c{Tensor(elements[i].data(), DType::u8, {M, K}), Tensor(scales[i].data(), DType::f32, {groups, K}),
                   group_rows};
    regroup_columns(stream, q, c, rule);
    return c;
  };
  linear_backward_weight(stream, columns(0, dy.tensor), columns(1, x.tensor),
                         Tensor(dw.data(), DType::f32, {dy.tensor.dim(1), x.tensor.dim(1)}));
}

/// The gradient of a matrix is that of the operands that were seen, by columns of as many rows as the precision has.
TEST(Scales, OfAWeightsGradientGoDownItsColumns) {
  const std::string name = "model.layers.0.self_attn.o_proj.weight";
  for (const auto& [precision, section] : precisions_of_eight) {
    const Recipe recipe = with_precision(in_blocks(small_recipe(Compute::bf16, Reproducibility::run, 2)), section);
    const bool mx = section.compute == Compute::mxfp8;
    const ColumnScale rule = section.compute == Compute::fp8_tensor ? ColumnScale::largest : ColumnScale::power_of_two;
    std::vector<float> dw, of_other_groups;
    std::optional<Operand> dy;
    const RunResult run = train_on(recipe, 1, 1, 1, [&](Engine& engine) {
      const Slot matrix = engine.store().slot(name);
      dw.assign(static_cast<std::size_t>(matrix.shape.num_elements()), 0.0F);
      of_other_groups = dw;
      engine.set_operand_probe([&, matrix](const Slot& w, OperandRole role, const Tensor& x) {
        if (w.offset != matrix.offset) return;
        if (role == OperandRole::gradient) {
          dy.emplace(x);
        } else if (dy) {  // as backward reads it
          add_by_columns(*dy, Operand(x), mx ? 32 : 128, rule, dw);
          add_by_columns(*dy, Operand(x), mx ? 128 : 32, rule, of_other_groups);
          dy.reset();
        }
      });
    });
    const std::vector<double>& gradient = run.gradients.at(name);
    EXPECT_TRUE(std::equal(dw.begin(), dw.end(), gradient.begin(), gradient.end(), [](float a, double b) {
      return static_cast<double>(a) == b;
    })) << precision;
    if (rule != ColumnScale::largest) {  // one scale is one scale, however rows are grouped
      EXPECT_NE(dw, of_other_groups) << precision;
    }
  }
}

}  // namespace
}  // namespace fourmi
