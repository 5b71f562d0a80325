// Leaves: a sum cut into chains that a tree joins, against the definition made of uncut calls, and cut over ranks.
#include <gtest/gtest.h>

#include "kernels/ops/linear.h"
#include "kernels/ops/tree_sum.h"
#include "tests/kernels/linear_test_data.h"

namespace fourmi {
namespace {

using test::isas;
using test::pick;
using test::Random;
using test::TypedBuffer;

/// Columns [begin, end) of a matrix, or of each of a stack of them ([..., rows, columns]).
TypedBuffer columns(TypedBuffer& x, std::int64_t begin, std::int64_t end) {
  Shape shape = x.tensor().shape;
  const int last = shape.rank - 1;
  const std::int64_t width = shape[last], rows = x.size() / width;
  shape.dims[static_cast<std::size_t>(last)] = end - begin;
  TypedBuffer part(shape, x.tensor().dtype);
  const std::int64_t size = size_of(x.tensor().dtype);
  for (std::int64_t r = 0; r < rows; ++r)
    std::memcpy(static_cast<std::byte*>(part.tensor().data) + r * (end - begin) * size,
                static_cast<std::byte*>(x.tensor().data) + (r * width + begin) * size,
                static_cast<std::size_t>((end - begin) * size));
  return part;
}
/// Rows [begin, end) of each matrix of a stack.
TypedBuffer stacked_rows(TypedBuffer& w, std::int64_t begin, std::int64_t end) {
  const Shape s = w.tensor().shape;
  TypedBuffer part({s[0], end - begin, s[2]}, w.tensor().dtype);
  const std::int64_t row = s[2] * size_of(w.tensor().dtype);
  for (std::int64_t e = 0; e < s[0]; ++e)
    std::memcpy(static_cast<std::byte*>(part.tensor().data) + e * (end - begin) * row,
                static_cast<std::byte*>(w.tensor().data) + (e * s[1] + begin) * row,
                static_cast<std::size_t>((end - begin) * row));
  return part;
}

/// A random product y = x w^T or dx = dy w of one or several experts, and its parts that hold a run of the summed
/// index.
struct Case {
  bool backward, grouped, with_residual;
  std::int64_t rows, kept, leaves, summed, experts;
  DType in, out;
  TypedBuffer x, w, residual;
  std::vector<std::int32_t> offsets;

  explicit Case(Random& random) {
    static constexpr std::pair<DType, DType> dtypes[] = {
        {DType::f64, DType::f64}, {DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}};
    std::tie(in, out) = dtypes[pick(random, 0, 3)];
    backward = pick(random, 0, 1) == 1, grouped = pick(random, 0, 1) == 1;
    with_residual = !grouped && pick(random, 0, 1) == 1;
    rows = pick(random, 0, 60), kept = pick(random, 1, 100), leaves = std::int64_t{1} << pick(random, 0, 4);
    summed = leaves * (pick(random, 0, 9) == 0 ? pick(random, 200, 600) : pick(random, 1, 40));
    experts = grouped ? pick(random, 1, 4) : 1;
    x = TypedBuffer({rows, summed}, in), residual = TypedBuffer({rows, kept}, out);
    if (grouped)
      w = TypedBuffer(backward ? Shape{experts, summed, kept} : Shape{experts, kept, summed}, in);
    else
      w = TypedBuffer(backward ? Shape{summed, kept} : Shape{kept, summed}, in);
    const int exponent = pick(random, 0, 3) == 0 ? -63 : 0;  // leaves of denormals
    x.fill(random, exponent), w.fill(random, exponent), residual.fill(random, 2 * exponent);
    if (grouped) offsets = test::random_offsets(random, experts, rows);
  }

  /// The product of the summed index's run [begin, end).
  TypedBuffer run(const Stream& stream, std::int64_t begin, std::int64_t end, std::int64_t with_leaves, DType dtype,
                  bool add) {
    TypedBuffer y({rows, kept}, dtype), part_x = columns(x, begin, end), part_w;
    if (!backward)
      part_w = columns(w, begin, end);
    else if (grouped)
      part_w = stacked_rows(w, begin, end);
    else
      part_w = TypedBuffer({end - begin, kept}, in), std::memcpy(part_w.tensor().data, w.tensor().rows(begin, end).data,
                                                                 static_cast<std::size_t>(part_w.tensor().bytes()));
    const Tensor a = part_x.tensor(), b = part_w.tensor(), c = y.tensor(), r = add ? residual.tensor() : Tensor{};
    if (backward)
      grouped ? grouped_linear_backward_input(stream, a, b, offsets, c, with_leaves)
              : linear_backward_input(stream, a, b, c, r, with_leaves);
    else
      grouped ? grouped_linear_forward(stream, a, b, offsets, c, with_leaves)
              : linear_forward(stream, a, b, c, r, with_leaves);
    return y;
  }

  /// The same from `ranks` runs of leaves / ranks leaves, joined by tree_sum.
  TypedBuffer run_cut(const Stream& stream, std::int64_t ranks) {
    const std::int64_t here = summed / ranks;
    std::vector<TypedBuffer> parts;
    std::vector<Tensor> received;
    for (std::int64_t r = 0; r < ranks; ++r)
      parts.push_back(run(stream, r * here, (r + 1) * here, leaves / ranks, accumulate_dtype(in), false));
    const std::int64_t end = used_rows();
    for (TypedBuffer& part : parts) received.push_back(part.tensor().rows(0, end));
    TypedBuffer y({rows, kept}, out);
    tree_sum(stream, received, y.tensor().rows(0, end), with_residual ? residual.tensor().rows(0, end) : Tensor{});
    return y;
  }

  std::int64_t used_rows() const { return grouped ? offsets.back() : rows; }

  std::string name() const {
    return fmt::format("backward {} grouped {} residual {} {}->{} rows {} kept {} summed {} leaves {}", backward,
                       grouped, with_residual, name_of(in), name_of(out), rows, kept, summed, leaves);
  }
};

TEST(LinearLeaves, OverRanksAreTheWholeOnEveryInstructionSet) {
  ThreadPool one(1), three(3);
  Random random(11);
  bool leaves_matter = false;
  for (int i = 0; i < 120; ++i) {
    Case c(random);
    TypedBuffer expected = c.run_cut(Stream(one, Isa::portable), c.leaves);  // one uncut chain a leaf: the definition
    leaves_matter |= !(expected == c.run(Stream(one), 0, c.summed, 1, c.out, c.with_residual));
    for (const Isa isa : isas()) {
      for (ThreadPool* pool : {&one, &three})
        ASSERT_TRUE(c.run(Stream(*pool, isa), 0, c.summed, c.leaves, c.out, c.with_residual) == expected)
            << i << ": " << name_of(isa) << " " << c.name();
      for (std::int64_t ranks = 1; ranks < c.leaves; ranks *= 2)
        ASSERT_TRUE(c.run_cut(Stream(one, isa), ranks) == expected)
            << i << ": " << ranks << " ranks " << name_of(isa) << " " << c.name();
    }
  }
  EXPECT_TRUE(leaves_matter) << "the test is blind";
}

TEST(LinearLeaves, OneLeafIsTheUncutCall) {
  ThreadPool pool(1);
  Random random(12);
  for (const Isa isa : isas()) {
    TypedBuffer x({33, 700}, DType::bf16), w({40, 700}, DType::bf16), a({33, 40}, DType::bf16), b = a;
    x.fill(random), w.fill(random);
    linear_forward(Stream(pool, isa), x.tensor(), w.tensor(), a.tensor());
    linear_forward(Stream(pool, isa), x.tensor(), w.tensor(), b.tensor(), {}, 1);
    EXPECT_TRUE(a == b);
  }
}

TEST(LinearLeaves, OfNothingAreZero) {
  ThreadPool pool(1);
  for (const Isa isa : isas()) {
    TypedBuffer x({3, 0}, DType::f32), w({4, 0}, DType::f32), y({3, 4}, DType::f32);
    linear_forward(Stream(pool, isa), x.tensor(), w.tensor(), y.tensor(), {}, 8);
    for (std::int64_t i = 0; i < 12; ++i) EXPECT_EQ(y.get(i), 0.0);
  }
}

TEST(LinearLeaves, ThatDoNotDivideTheSumAreRefused) {
  ThreadPool pool(1);
  const Stream stream(pool);
  TypedBuffer x({2, 12}, DType::f32), w({3, 12}, DType::f32), y({2, 3}, DType::f32), dx({2, 12}, DType::f32);
  for (const std::int64_t leaves : {0, 3, 8, 32})
    EXPECT_THROW(linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), {}, leaves), Error) << leaves;
  EXPECT_THROW(linear_backward_input(stream, y.tensor(), w.tensor(), dx.tensor(), {}, 2), Error);  // 3 out features
}

}  // namespace
}  // namespace fourmi
