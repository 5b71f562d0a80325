// One set of bits for products of e4m3 elements: every instruction set and number of threads gives what the oracle
// gives, over random, denormal and extreme elements and scales, odd sizes, cuts, leaves and experts.
#include <gtest/gtest.h>

#include "tests/kernels/float8_test_data.h"

namespace fourmi {
namespace {

using test::Columns;
using test::Float8;
using test::isas;
using test::pick;
using test::Random;
using test::Style;
using test::TypedBuffer;

enum class Op { forward, backward_input, backward_weight };

struct Case {
  Op op;
  bool mx, grouped, with_residual = false;
  std::int64_t rows, in, out, experts, leaves = 1;
  Style style;
  DType out_dtype;
  TypedBuffer residual, result;
  std::vector<Float8> tensors;
  std::vector<Columns> columns;
  std::vector<std::int32_t> offsets, row_token;
  Cuts cuts;

  static std::int64_t size(Random& random) {
    switch (pick(random, 0, 4)) {
      case 0:
        return pick(random, 1, 9);
      case 1:
        return 128 * pick(random, 1, 3) + pick(random, -1, 1);
      case 2:
        return 12 * pick(random, 1, 5) + pick(random, -1, 1);
      case 3:
        return pick(random, 0, 70);
      default:
        return pick(random, 60, 200);
    }
  }

  explicit Case(Random& random) {
    op = static_cast<Op>(pick(random, 0, 2));
    mx = pick(random, 0, 2) == 0, grouped = pick(random, 0, 1) == 1;
    rows = size(random), in = size(random), out = size(random), experts = grouped ? pick(random, 1, 5) : 1;
    std::int64_t& summed = op == Op::forward ? in : op == Op::backward_input ? out : rows;
    if (pick(random, 0, 5) == 0) summed = pick(random, 400, 1400), rows = std::min<std::int64_t>(rows, 70);
    const bool weight = op == Op::backward_weight;
    if (!weight && pick(random, 0, 3) == 0) {
      leaves = pick(random, 0, 1) ? 2 : 4;
      summed = leaves * (mx ? 32 : 128) * pick(random, 1, 3);
    }
    style = static_cast<Style>(pick(random, 0, 4));
    if (grouped) offsets = test::random_offsets(random, experts, rows);
    if (weight) make_cuts(random);
    const Shape w = grouped ? Shape{experts, out, in} : Shape{out, in};
    out_dtype =
        weight ? (pick(random, 0, 1) ? DType::f32 : DType::fx128) : (pick(random, 0, 1) ? DType::f32 : DType::bf16);
    result = TypedBuffer(op == Op::forward ? Shape{rows, out}
                         : weight          ? w
                                           : Shape{rows, in},
                         out_dtype, pick(random, 0, 3));
    if (weight) {
      result.fill(random);
    } else if (!grouped && pick(random, 0, 1)) {
      with_residual = true;
      residual = result;
      residual.fill(random);
    }
    make_operands(random, w);
  }

  void make_cuts(Random& random) {
    if (pick(random, 0, 2) == 0) return;
    cuts.rows = pick(random, 1, 300);
    if (pick(random, 0, 1)) return;
    std::int32_t token = 0;
    for (std::int64_t r = 0; r < rows; ++r) row_token.push_back(token += static_cast<std::int32_t>(pick(random, 0, 3)));
    cuts.row_token = row_token.data();
  }

  void make_operands(Random& random, const Shape& w) {
    const std::int64_t group_rows = mx ? 32 : 128, E = grouped ? experts : 0, skew = pick(random, 0, 3);
    const DType dtype = mx ? DType::mxe4m3_rows : DType::e4m3_rows;
    if (op == Op::backward_weight) {
      const auto groups = test::group_of_rows(offsets, rows, cuts, group_rows);
      columns.emplace_back(Shape{rows, out}, groups, group_rows).randomise(random, style);
      columns.emplace_back(Shape{rows, in}, groups, group_rows).randomise(random, style);
      return;
    }
    tensors.emplace_back(dtype, 0, rows, op == Op::forward ? in : out, skew).randomise(random, style);
    if (mx && op == Op::backward_input) {
      std::vector<std::int32_t> ends{0};
      for (std::int64_t e = 1; e <= experts; ++e) ends.push_back(static_cast<std::int32_t>(e * out));
      columns.emplace_back(w, test::group_of_rows(ends, experts * out, {}, 32), 32).randomise(random, style);
    } else {
      tensors.emplace_back(mx ? dtype : DType::e4m3_panels, E, out, in, skew).randomise(random, style);
    }
  }

  TypedBuffer run(const Stream& stream) {
    TypedBuffer got = result;
    const Tensor c = got.tensor(), r = with_residual ? residual.tensor() : Tensor{};
    if (op == Op::forward) {
      const Tensor a = tensors[0].tensor(), b = tensors[1].tensor();
      grouped ? grouped_linear_forward(stream, a, b, offsets, c, leaves) : linear_forward(stream, a, b, c, r, leaves);
    } else if (op == Op::backward_weight) {
      const ColumnScaled a = columns[0].scaled(), b = columns[1].scaled();
      grouped ? grouped_linear_backward_weight(stream, a, b, offsets, c, cuts)
              : linear_backward_weight(stream, a, b, c, cuts);
    } else if (mx) {
      const ColumnScaled b = columns[0].scaled();
      const Tensor a = tensors[0].tensor();
      grouped ? grouped_linear_backward_input(stream, a, b, offsets, c, leaves)
              : linear_backward_input(stream, a, b, c, r, leaves);
    } else {
      const Tensor a = tensors[0].tensor(), b = tensors[1].tensor();
      grouped ? grouped_linear_backward_input(stream, a, b, offsets, c, leaves)
              : linear_backward_input(stream, a, b, c, r, leaves);
    }
    return got;
  }

  std::string name() const {
    return fmt::format("op {} mx {} grouped {} -> {} rows {} in {} out {} experts {} leaves {} cuts {} style {}",
                       static_cast<int>(op), mx, grouped, name_of(out_dtype), rows, in, out, experts, leaves, cuts.rows,
                       static_cast<int>(style));
  }
};

TEST(LinearFloat8Isa, EqualToPortableBitForBit) {
  ThreadPool one(1), three(3);
  Random random(42);
  for (int i = 0; i < 160; ++i) {
    Case c(random);
    TypedBuffer expected = c.run(Stream(one, Isa::portable));
    for (const Isa isa : isas()) {
      TypedBuffer got = c.run(Stream(one, isa)), again = c.run(Stream(three, isa));
      ASSERT_TRUE(test::same(got, expected)) << i << ": " << name_of(isa) << " " << c.name();
      ASSERT_TRUE(test::same(again, expected)) << i << ": three threads " << name_of(isa) << " " << c.name();
    }
  }
}

TEST(LinearFloat8Isa, EveryElementIsItself) {
  ThreadPool pool(1);
  constexpr std::int64_t n = 256;
  constexpr std::uint8_t one = 0x38;
  const auto identity = [](Float8 m) {
    for (std::int64_t i = 0; i < 4; ++i) m.set_scale(i, 1), m.q(i) = i == 0 || i == 3 ? one : 0;
    return m;
  };
  for (const Isa isa : isas()) {
    Float8 x(DType::e4m3_rows, 0, n, 2), w(DType::e4m3_panels, 0, 2, n);
    for (std::int64_t i = 0; i < 2 * n; ++i) {
      x.set_scale(i, 1), x.q(i) = static_cast<std::uint8_t>(i / 2);
      w.set_scale(i, 1), w.q(i) = static_cast<std::uint8_t>(i % n);
    }
    TypedBuffer y({n, 2}, DType::f32), dx({2, n}, DType::f32);
    linear_forward(Stream(pool, isa), x.tensor(), identity({DType::e4m3_panels, 0, 2, 2}).tensor(), y.tensor());
    linear_backward_input(Stream(pool, isa), identity({DType::e4m3_rows, 0, 2, 2}).tensor(), w.tensor(), dx.tensor());
    for (std::int64_t q = 0; q < n; ++q)
      for (std::int64_t i = 0; i < 2; ++i) {
        const double value = test::e4m3_value(static_cast<std::uint8_t>(q));
        for (const double got : {y.get(2 * q + i), dx.get(i * n + q)})
          EXPECT_TRUE(got == value || (std::isnan(value) && std::isnan(got))) << name_of(isa) << " " << q << " " << got;
      }
  }
}

}  // namespace
}  // namespace fourmi
