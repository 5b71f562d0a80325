// Random calls of all linear maps, plain and grouped, of every kind of input: sizes around the tiles of a GPU's
// kernels, many experts, rows of nobody, views at any address. Against the same call in f64 on the CPU.
#include <gtest/gtest.h>

#include "kernels/cuda/linear_choice.h"
#include "tests/device/stream.h"
#include "tests/hopper/card.h"
#include "tests/kernels/linear_streams.h"

namespace fourmi {
namespace {

using test::ColumnsHere;
using test::Float8;
using test::pick;
using test::Random;
using test::TypedBuffer;

enum class Op { forward, backward_input, backward_weight };

struct Sizes {
  std::int64_t rows, in, out, experts;  ///< experts: 0: not grouped
};

std::int64_t random_size(Random& random) {
  static constexpr std::int64_t around[] = {8, 16, 32, 64, 128, 256};
  switch (pick(random, 0, 3)) {
    case 0:
      return pick(random, 1, 40);
    case 1:
      return around[pick(random, 0, 5)] + pick(random, -1, 1);
    case 2:
      return 8 * pick(random, 1, 36);
    default:
      return pick(random, 100, 300);
  }
}

Sizes random_sizes(Random& random) {
  Sizes s{random_size(random), random_size(random), random_size(random), 0};
  if (pick(random, 0, 2) == 0) s.experts = pick(random, 0, 3) == 0 ? pick(random, 33, 70) : pick(random, 1, 6);
  return s;
}

/// Of experts some of whom have no rows; nobody has the first rows and the last ones.
std::vector<std::int32_t> random_offsets(Random& random, const Sizes& s) {
  if (s.experts == 0) return {};
  auto offsets = test::random_offsets(random, s.experts, s.rows);
  const auto shift = static_cast<std::int32_t>(pick(random, 0, s.rows - offsets.back()));
  for (std::int32_t& o : offsets) o += shift;
  return offsets;
}

Shape shape_of(const Sizes& s, Op op, int which) {  // of the first input, the second, the output
  const Shape x{s.rows, s.in}, y{s.rows, s.out}, w = s.experts ? Shape{s.experts, s.out, s.in} : Shape{s.out, s.in};
  if (op == Op::forward) return which == 0 ? x : which == 1 ? w : y;
  if (op == Op::backward_input) return which == 0 ? y : which == 1 ? w : x;
  return which == 0 ? y : which == 1 ? x : w;
}

template <class First, class Second>
void call(const Stream& stream, Op op, const First& a, const Second& b, std::span<const std::int32_t> offsets,
          const Tensor& c, const Tensor& residual = {}) {
  const bool grouped = !offsets.empty();
  if constexpr (std::is_same_v<First, Tensor>) {
    if constexpr (std::is_same_v<Second, Tensor>)
      if (op == Op::forward)
        return grouped ? grouped_linear_forward(stream, a, b, offsets, c) : linear_forward(stream, a, b, c, residual);
    if (op == Op::backward_input)
      return grouped ? grouped_linear_backward_input(stream, a, b, offsets, c)
                     : linear_backward_input(stream, a, b, c, residual);
  }
  if constexpr (std::is_same_v<First, Second>)
    grouped ? grouped_linear_backward_weight(stream, a, b, offsets, c) : linear_backward_weight(stream, a, b, c);
}

/// The call in f64, and over magnitudes.
struct Expected {
  TypedBuffer value, magnitude;
  Expected(Op op, TypedBuffer a, TypedBuffer b, std::span<const std::int32_t> offsets, TypedBuffer before,
           TypedBuffer residual) {
    ThreadPool pool(1);
    value = before, magnitude = before;
    for (TypedBuffer* out : {&value, &magnitude}) {
      call(Stream(pool), op, a.tensor(), b.tensor(), offsets, out->tensor(),
           residual.size() > 0 ? residual.tensor() : Tensor{});
      for (TypedBuffer* t : {&a, &b, &residual, &magnitude})
        for (std::int64_t i = 0; i < t->size() && out == &value; ++i) t->set(i, std::abs(t->get(i)));
    }
  }
};

TypedBuffer widened(TypedBuffer& x) {
  TypedBuffer y(x.tensor().shape, DType::f64);
  for (std::int64_t i = 0; i < x.size(); ++i) y.set(i, x.get(i));
  return y;
}

/// `cut`: more than rounding, of the magnitude.
void expect_near(TypedBuffer& got, Expected& expected, std::int64_t count, DType in, const std::string& name,
                 double cut = 0) {
  const DType out = got.tensor().dtype;
  const double unit = in == DType::f64 ? 0x1p-53 : 0x1p-24;
  const double rounding = out == DType::bf16 ? 0x1p-8 : unit;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    if (std::isnan(expected.value.get(i))) {
      ASSERT_TRUE(std::isnan(got.get(i))) << name << " at " << i;
      continue;
    }
    const double tolerance = static_cast<double>(count + 4) * unit * test::looseness(in) + rounding + cut;
    ASSERT_NEAR(got.get(i), expected.value.get(i), tolerance * expected.magnitude.get(i) + 1e-300)
        << name << " at " << i;
  }
}

std::int64_t summed(const Sizes& s, Op op) {
  return op == Op::forward ? s.in : op == Op::backward_input ? s.out : s.rows;
}

TEST(LinearAnyShape, OfFloats) {
  ThreadPool pool(2);
  const Stream stream = test::stream_of(pool);
  Random random(1);
  static constexpr std::pair<DType, DType> dtypes[] = {
      {DType::f64, DType::f64}, {DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}};
  for (int trial = 0; trial < 72; ++trial) {
    const Op op = static_cast<Op>(trial % 3);
    auto [in, out] = dtypes[trial / 3 % 4];
    if (op == Op::backward_weight) out = accumulate_dtype(in);
    const Sizes s = random_sizes(random);
    const auto offsets = random_offsets(random, s);
    TypedBuffer a(shape_of(s, op, 0), in), b(shape_of(s, op, 1), in), c(shape_of(s, op, 2), out), residual({0}, out);
    a.fill(random), b.fill(random);
    if (op == Op::backward_weight) c.fill(random);
    if (op != Op::backward_weight && s.experts == 0 && pick(random, 0, 1))
      residual = TypedBuffer(shape_of(s, op, 2), out), residual.fill(random);
    Expected expected(op, widened(a), widened(b), offsets, widened(c), widened(residual));
    // Rows of nobody are neither read nor written.
    for (std::int64_t r = 0; r < s.rows && !offsets.empty(); ++r)
      if (r < offsets.front() || r >= offsets.back())
        for (TypedBuffer* t : {&a, &b})
          for (std::int64_t i = 0, width = t->tensor().dim(1); t->tensor().shape.rank == 2 && i < width; ++i)
            t->set(r * width + i, std::numeric_limits<double>::quiet_NaN());
    TypedBuffer cpu = c;
    const Tensor added = residual.size() > 0 ? residual.tensor() : Tensor{};
    call(stream, op, a.tensor(), b.tensor(), offsets, c.tensor(), added);
    const auto name = fmt::format("{}: op {} {}->{} rows {} in {} out {} experts {}", trial, static_cast<int>(op),
                                  name_of(in), name_of(out), s.rows, s.in, s.out, s.experts);
    expect_near(c, expected, summed(s, op), in, name);
    if (in == DType::bf16) continue;
    call(Stream(pool), op, a.tensor(), b.tensor(), offsets, cpu.tensor(), added);
    ASSERT_TRUE(c == cpu) << name << ": chains of f32 and f64 are the CPU's, card or not";
  }
}

/// Inputs (w lies over x), residual and output that follow one another in one allocation.
TEST(LinearAnyShape, OfViews) {
  ThreadPool pool(1);
  const Stream stream = test::stream_of(pool);
  Random random(2);
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16})
    for (const std::int64_t skew : {0, 1, 3, 4}) {
      constexpr std::int64_t rows = 5, in = 40, out = 24, num_x = rows * in, num_w = out * in, num_y = rows * out;
      TypedBuffer all({skew + num_w + 2 * num_y}, dtype);
      all.fill(random);
      const auto view = [&](std::int64_t first, Shape shape) {
        return Tensor(static_cast<std::byte*>(all.tensor().data) + first * size_of(dtype), dtype, shape);
      };
      const auto copied = [&](std::int64_t first, Shape shape) {
        TypedBuffer b(shape, dtype);
        for (std::int64_t i = 0; i < b.size(); ++i) b.set(i, all.get(first + i));
        return b;
      };
      static_assert(num_x < num_w);
      TypedBuffer x = copied(0, {rows, in}), w = copied(skew, {out, in}), residual = copied(skew + num_w, {rows, out});
      TypedBuffer y({rows, out}, dtype);
      linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), residual.tensor());
      linear_forward(stream, view(0, {rows, in}), view(skew, {out, in}), view(skew + num_w + num_y, {rows, out}),
                     view(skew + num_w, {rows, out}));
      for (std::int64_t i = 0; i < num_y; ++i)
        ASSERT_EQ(all.get(skew + num_w + num_y + i), y.get(i)) << name_of(dtype) << " " << skew;
    }
}

TypedBuffer values_of(Float8& t) {
  const Shape shape = t.tensor().shape;
  const std::int64_t K = shape[shape.rank - 1];
  TypedBuffer v(shape, DType::f64);
  for (std::int64_t i = 0; i < t.size(); ++i) v.set(i, t.value(i / K, i % K));
  return v;
}
TypedBuffer values_of(test::Columns& t, Shape shape, const std::vector<std::int64_t>& group) {
  const std::int64_t K = shape[shape.rank - 1];
  TypedBuffer v(shape, DType::f64);
  for (std::int64_t i = 0; i < v.size(); ++i)
    v.set(i, group[static_cast<std::size_t>(i / K)] < 0 ? 0 : t.value(i / K, i % K));
  return v;
}

TEST(LinearAnyShape, OfElementsWithScales) {
  ThreadPool pool(2);
  const Stream stream = test::stream_of(pool);
  Random random(3);
  for (int trial = 0; trial < 60; ++trial) {
    const Op op = static_cast<Op>(trial % 3);
    const bool mx = trial / 3 % 2 == 1;
    const DType out = op != Op::backward_weight && trial / 6 % 2 == 1 ? DType::bf16 : DType::f32;
    const Sizes s = random_sizes(random);
    const auto offsets = random_offsets(random, s);
    const std::int64_t group_rows = mx ? 32 : 128;
    const DType rows = mx ? DType::mxe4m3_rows : DType::e4m3_rows;
    const auto name = fmt::format("{}: op {} mx {} rows {} in {} out {} experts {}", trial, static_cast<int>(op), mx,
                                  s.rows, s.in, s.out, s.experts);
    TypedBuffer c(shape_of(s, op, 2), out);
    if (op == Op::backward_weight) c.fill(random);
    const auto check = [&](const auto& a, const auto& b, TypedBuffer a_values, TypedBuffer b_values) {
      Expected expected(op, std::move(a_values), std::move(b_values), offsets, widened(c),
                        TypedBuffer({0}, DType::f64));
      call(stream, op, a, b, offsets, c.tensor());
      expect_near(c, expected, summed(s, op), DType::bf16, name, test::on_card() && !mx ? test::hopper_cut : 0);
    };
    if (op == Op::backward_weight) {
      const auto groups = test::group_of_rows(offsets, s.rows, {}, group_rows);
      ColumnsHere dy({s.rows, s.out}, groups, group_rows), x({s.rows, s.in}, groups, group_rows);
      dy.randomise(random), x.randomise(random);
      check(dy.scaled(), x.scaled(), values_of(dy, {s.rows, s.out}, groups), values_of(x, {s.rows, s.in}, groups));
    } else {
      Float8 a(rows, 0, s.rows, op == Op::forward ? s.in : s.out);
      a.randomise(random);
      const std::int64_t matrices = std::max<std::int64_t>(s.experts, 1);
      if (mx && op == Op::backward_input) {
        std::vector<std::int64_t> groups;
        for (std::int64_t n = 0; n < matrices * s.out; ++n)
          groups.push_back(n / s.out * ((s.out + 31) / 32) + n % s.out / 32);
        ColumnsHere w(shape_of(s, op, 1), groups, 32);
        w.randomise(random);
        check(a.tensor(), w.scaled(), values_of(a), values_of(w, shape_of(s, op, 1), groups));
      } else {
        Float8 w(mx ? rows : DType::e4m3_panels, s.experts, s.out, s.in);
        w.randomise(random);
        check(a.tensor(), w.tensor(), values_of(a), values_of(w));
      }
    }
    if (HasFatalFailure()) return;
  }
}

TEST(LinearAnyShape, ACardRefusesWhatModeLayoutAlonePasses) {
  ThreadPool pool(1);
  const Stream stream = test::stream_of(pool);
  TypedBuffer x({4, 6}, DType::bf16), w({8, 6}, DType::bf16), y({4, 8}, DType::bf16), exact({8, 6}, DType::fx128),
      dw({8, 6}, DType::f32);
  x.fill_zero(), w.fill_zero(), y.fill_zero(), exact.fill_zero(), dw.fill_zero();
  test::expect_on_cpu_alone([&] { linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), {}, 2); });
  test::expect_on_cpu_alone([&] { linear_backward_weight(stream, y.tensor(), x.tensor(), exact.tensor()); });
  test::expect_on_cpu_alone([&] { linear_backward_weight(stream, y.tensor(), x.tensor(), dw.tensor(), {.rows = 2}); });
  Float8 x8(DType::e4m3_rows, 0, 4, 128), w8(DType::e4m3_panels, 0, 8, 128);
  test::expect_on_cpu_alone(
      [&] { linear_forward(stream, x8.tensor(), w8.tensor(), y.tensor(), {}, 1, {Float8Sum::Accumulator::hopper}); });
}

TEST(LinearAnyShape, EveryInputHasKernels) {
  using namespace cuda::linear;
  for (const Map map : {Map::forward, Map::backward_input, Map::backward_weight})
    for (const bool grouped : {false, true}) {
      for (const Input input : {Input::f64, Input::f32, Input::bf16})
        EXPECT_EQ(choose({.map = map, .input = input, .grouped = grouped}, {9, 0}), Family::plain);
      for (const Input input : {Input::e4m3, Input::mxe4m3})
        EXPECT_EQ(choose({.map = map, .input = input, .grouped = grouped}, {9, 0}), Family::plain_scaled);
    }
}

}  // namespace
}  // namespace fourmi
