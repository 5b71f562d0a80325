// One set of bits: every instruction set, number of threads, number of rows and alignment gives what the oracle gives.
#include <gtest/gtest.h>

#include "kernels/ops/linear.h"
#include "tests/kernels/linear_test_data.h"

namespace fourmi {
namespace {

using test::isas;
using test::pick;
using test::Random;
using test::TypedBuffer;

enum class Op { forward, backward_input, backward_weight };

/// A random call: plain or grouped, any dtype triple, odd sizes, skewed pointers, denormal products, residual, cuts.
struct Case {
  Op op;
  bool grouped, with_residual = false;
  std::int64_t rows, in, out, experts;
  DType dtype, out_dtype;
  TypedBuffer first, second, residual, result;
  std::vector<std::int32_t> offsets, row_token;
  Cuts cuts;

  explicit Case(Random& random) {
    static constexpr DType dtypes[] = {DType::f64, DType::f32, DType::bf16, DType::bf16, DType::bf16};
    auto size = [&] {
      switch (pick(random, 0, 4)) {
        case 0:
          return pick(random, 1, 9);
        case 1:
          return 16 * pick(random, 1, 6) + pick(random, -1, 1);
        case 2:
          return 12 * pick(random, 1, 5) + pick(random, -1, 1);
        case 3:
          return pick(random, 0, 70);
        default:
          return pick(random, 60, 200);
      }
    };
    op = static_cast<Op>(pick(random, 0, 2));
    grouped = pick(random, 0, 1) == 1;
    rows = size(), in = size(), out = size(), experts = grouped ? pick(random, 1, 8) : 1;
    std::int64_t& summed = op == Op::forward ? in : op == Op::backward_input ? out : rows;
    if (pick(random, 0, 7) == 0) summed = pick(random, 300, 1300);  // several blocks of the sum
    dtype = dtypes[pick(random, 0, 4)];
    const bool weight = op == Op::backward_weight;
    out_dtype = dtype == DType::f64 ? DType::f64 : DType::f32;
    if (dtype == DType::bf16 && !weight && pick(random, 0, 1)) out_dtype = DType::bf16;
    if (dtype != DType::f64 && weight && pick(random, 0, 1)) out_dtype = DType::fx128;
    const Shape x{rows, in}, y{rows, out}, w = grouped ? Shape{experts, out, in} : Shape{out, in};
    const int exponent = pick(random, 0, 3) == 0 ? -63 : 0;
    auto skew = [&] { return pick(random, 0, 3); };
    first = TypedBuffer(op == Op::forward ? x : y, dtype, skew());
    second = TypedBuffer(weight ? x : w, dtype, skew());
    result = TypedBuffer(op == Op::forward ? y : weight ? w : x, out_dtype, skew());
    first.fill(random, exponent), second.fill(random, exponent);
    if (weight) {
      result.fill(random, pick(random, 0, 1) ? 2 * exponent : 0);
      make_cuts(random);
    } else if (!grouped && pick(random, 0, 1)) {
      with_residual = true;
      residual = result;
      residual.fill(random, 2 * exponent);
    }
    if (grouped) offsets = test::random_offsets(random, experts, rows);
  }

  void make_cuts(Random& random) {
    if (pick(random, 0, 2) == 0) return;
    cuts.rows = pick(random, 1, 40);
    if (pick(random, 0, 1)) return;
    std::int32_t token = 0;
    for (std::int64_t r = 0; r < rows; ++r) row_token.push_back(token += static_cast<std::int32_t>(pick(random, 0, 5)));
  }

  TypedBuffer run(const Stream& stream) {
    TypedBuffer got = result;
    Cuts now = cuts;
    if (!row_token.empty()) now.row_token = row_token.data();
    const Tensor a = first.tensor(), b = second.tensor(), c = got.tensor();
    const Tensor r = with_residual ? residual.tensor() : Tensor{};
    switch (op) {
      case Op::forward:
        grouped ? grouped_linear_forward(stream, a, b, offsets, c) : linear_forward(stream, a, b, c, r);
        break;
      case Op::backward_input:
        grouped ? grouped_linear_backward_input(stream, a, b, offsets, c) : linear_backward_input(stream, a, b, c, r);
        break;
      case Op::backward_weight:
        grouped ? grouped_linear_backward_weight(stream, a, b, offsets, c, now)
                : linear_backward_weight(stream, a, b, c, now);
        break;
    }
    return got;
  }

  std::string name() const {
    return fmt::format("op {} grouped {} {}->{} rows {} in {} out {} experts {} cuts {} tokens {} residual {}",
                       static_cast<int>(op), grouped, name_of(dtype), name_of(out_dtype), rows, in, out, experts,
                       cuts.rows, row_token.size(), with_residual);
  }
};

TEST(LinearIsa, EqualToPortableBitForBit) {
  ThreadPool one(1), three(3);
  Random random(42);
  for (int i = 0; i < 900; ++i) {
    Case c(random);
    const TypedBuffer expected = c.run(Stream(one, Isa::portable));
    for (const Isa isa : isas()) {
      ASSERT_TRUE(c.run(Stream(one, isa)) == expected) << i << ": " << name_of(isa) << " " << c.name();
      ASSERT_TRUE(c.run(Stream(three, isa)) == expected) << i << ": three threads " << name_of(isa) << " " << c.name();
    }
  }
}

TEST(LinearIsa, ThreadsDoNotMatterOnManyTasks) {
  ThreadPool one(1), two(2), three(3);
  Random random(5);
  for (const Isa isa : isas()) {
    if (isa == Isa::portable) continue;
    for (const DType dtype : {DType::f32, DType::bf16}) {
      TypedBuffer x({820, 90}, dtype), w({600, 90}, dtype), y({820, 600}, DType::f32), dw({600, 90}, DType::f32);
      x.fill(random), w.fill(random), dw.fill(random);
      TypedBuffer y2 = y, y3 = y, dw2 = dw, dw3 = dw, dy({820, 600}, dtype);
      dy.fill(random);
      linear_forward(Stream(one, isa), x.tensor(), w.tensor(), y.tensor());
      linear_forward(Stream(two, isa), x.tensor(), w.tensor(), y2.tensor());
      linear_forward(Stream(three, isa), x.tensor(), w.tensor(), y3.tensor());
      EXPECT_TRUE(y == y2 && y == y3) << name_of(isa);
      linear_backward_weight(Stream(one, isa), dy.tensor(), x.tensor(), dw.tensor());
      linear_backward_weight(Stream(two, isa), dy.tensor(), x.tensor(), dw2.tensor());
      linear_backward_weight(Stream(three, isa), dy.tensor(), x.tensor(), dw3.tensor());
      EXPECT_TRUE(dw == dw2 && dw == dw3) << name_of(isa);
    }
  }
}

TEST(LinearIsa, RowsDoNotSeeEachOther) {
  ThreadPool pool(1);
  Random random(6);
  for (const Isa isa : isas())
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      const Stream stream(pool, isa);
      TypedBuffer x({29, 75}, dtype), w({45, 75}, dtype), y({29, 45}, accumulate_dtype(dtype));
      x.fill(random), w.fill(random);
      linear_forward(stream, x.tensor(), w.tensor(), y.tensor());
      TypedBuffer alone({29, 45}, accumulate_dtype(dtype));
      for (std::int64_t i = 0; i < 29; ++i)
        linear_forward(stream, x.tensor().rows(i, i + 1), w.tensor(), alone.tensor().rows(i, i + 1));
      EXPECT_TRUE(y == alone) << name_of(isa) << " " << name_of(dtype);
      TypedBuffer dx({29, 75}, accumulate_dtype(dtype)), dx_alone = dx, dy({29, 45}, dtype);
      dy.fill(random);
      linear_backward_input(stream, dy.tensor(), w.tensor(), dx.tensor());
      for (std::int64_t i = 0; i < 29; ++i)
        linear_backward_input(stream, dy.tensor().rows(i, i + 1), w.tensor(), dx_alone.tensor().rows(i, i + 1));
      EXPECT_TRUE(dx == dx_alone) << name_of(isa) << " " << name_of(dtype);
    }
}

TEST(LinearIsa, GroupedIsPlainPerExpertAndLeavesTheRestAlone) {
  ThreadPool pool(2);
  Random random(8);
  for (const Isa isa : isas())
    for (int i = 0; i < 40; ++i) {
      const Stream stream(pool, isa);
      const DType dtype = i % 2 ? DType::bf16 : DType::f32;
      const std::int64_t experts = pick(random, 1, 8), rows = pick(random, 1, 150), in = pick(random, 1, 70),
                         out = pick(random, 1, 70);
      const auto offsets = test::random_offsets(random, experts, rows);
      TypedBuffer x({rows, in}, dtype), dy({rows, out}, dtype), w({experts, out, in}, dtype);
      // Rows beyond the last offset stay NaN: neither read nor written.
      for (std::int64_t r = 0; r < offsets.back(); ++r) {
        for (std::int64_t k = 0; k < in; ++k) x.set(r * in + k, static_cast<double>(pick(random, -99, 99)) / 64);
        for (std::int64_t n = 0; n < out; ++n) dy.set(r * out + n, static_cast<double>(pick(random, -99, 99)) / 64);
      }
      w.fill(random);
      TypedBuffer y({rows, out}, dtype), dx({rows, in}, dtype), dw({experts, out, in}, DType::f32);
      dw.fill(random);
      TypedBuffer y2 = y, dx2 = dx, dw2 = dw;
      grouped_linear_forward(stream, x.tensor(), w.tensor(), offsets, y.tensor());
      grouped_linear_backward_input(stream, dy.tensor(), w.tensor(), offsets, dx.tensor());
      grouped_linear_backward_weight(stream, dy.tensor(), x.tensor(), offsets, dw.tensor());
      for (std::int64_t e = 0; e < experts; ++e) {
        const std::int64_t begin = offsets[static_cast<std::size_t>(e)], end = offsets[static_cast<std::size_t>(e) + 1];
        const Tensor we = w.tensor().rows(e, e + 1).view({out, in}), dwe = dw2.tensor().rows(e, e + 1).view({out, in});
        linear_forward(stream, x.tensor().rows(begin, end), we, y2.tensor().rows(begin, end));
        linear_backward_input(stream, dy.tensor().rows(begin, end), we, dx2.tensor().rows(begin, end));
        linear_backward_weight(stream, dy.tensor().rows(begin, end), x.tensor().rows(begin, end), dwe);
      }
      ASSERT_TRUE(y == y2 && dx == dx2 && dw == dw2) << name_of(isa) << " " << i;
      for (std::int64_t k = 0; k < offsets.back() * out; ++k) ASSERT_FALSE(std::isnan(y.get(k)));
      for (std::int64_t k = 0; k < dw.size(); ++k) ASSERT_FALSE(std::isnan(dw.get(k)));
    }
}

}  // namespace
}  // namespace fourmi
