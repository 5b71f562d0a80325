// Products of e4m3 elements, tier portable: the definition of docs/numerics.md "FP8 products" written down, block of
// the sum by block.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cpu/linear_finish.h"
#include "kernels/cpu/linear_hopper.h"
#include "kernels/cpu/linear_scaled.h"
#include "kernels/cpu/tree.h"
#include "kernels/numerics/flush_denormals.h"

namespace fourmi::linear {
namespace {

constexpr std::int64_t block = ScaledFormat::block;
constexpr std::int64_t width = 64;  // chains that are formed together

using Block = std::array<float, block>;  // of one line; behind its end zeros

/// A part of the sum: summed indices [begin, end), whose groups of scales are counted from `group`.
struct Part {
  std::int64_t begin = 0, end = 0, group = 0;
};

/// Elements [s, s + count) of a line: their values as they enter the product, exact in bf16. Those with scales of
/// their own inside a chain (mx) have them multiplied in.
void gather(const ScaledSide& side, const ScaledProblem& problem, std::int64_t line, std::int64_t s, std::int64_t count,
            const Part& part, Block& values) {
  const std::uint8_t* elements = side.at(line, s);
  const std::int64_t step = side.is_along() ? 1 : side.stride();
  for (std::int64_t i = 0; i < count; ++i)
    values[static_cast<std::size_t>(i)] = static_cast<float>(float8_e4m3::from_bits(elements[i * step]));
  std::fill(values.begin() + count, values.end(), 0.0F);
  if (problem.promotes()) return;
  for (std::int64_t i = 0; i < count; ++i) {
    float& value = values[static_cast<std::size_t>(i)];
    value = static_cast<float>(bfloat16(value * side.scale(line, part.group + (s + i - part.begin) / problem.group)));
  }
}

/// Goes on with the chain of "Linear" 3. Not inlined: the guard must cover nothing else.
[[gnu::noinline]] void add_chains(const Block& a, const std::array<Block, width>& b, std::int64_t cols,
                                  std::int64_t count, std::array<float, width>& chains) {
  const FlushDenormals guard;
  for (std::size_t j = 0; j < static_cast<std::size_t>(cols); ++j)
    for (std::size_t s = 0; s < static_cast<std::size_t>(count); s += 2) {
      chains[j] = std::fma(a[s + 1], b[j][s + 1], chains[j]);
      chains[j] = std::fma(a[s], b[j][s], chains[j]);
    }
}

/// Groups of 128 of one row and `cols` columns, as they come.
class Chains {
 public:
  Chains(const ScaledProblem& problem, std::int64_t cols, std::array<float, width>& sums)
      : problem_(problem), cols_(static_cast<std::size_t>(cols)), sums_(sums) {}

  /// f[j]: the product of the two scales of column j; `last` of its part.
  void add(const Block& a, const std::array<Block, width>& b, std::int64_t count, const std::array<float, width>& f,
           bool last) {
    if (problem_.sum.accumulator == Float8Sum::Accumulator::hopper) return add_hopper(a, b, count, f, last);
    std::array<float, width> chains{};
    add_chains(a, b, static_cast<std::int64_t>(cols_), count, chains);
    for (std::size_t j = 0; j < cols_; ++j) sums_[j] = std::fma(f[j], chains[j], sums_[j]);
  }

 private:
  void add_hopper(const Block& a, const std::array<Block, width>& b, std::int64_t count,
                  const std::array<float, width>& f, bool last) {
    since_promotion_ += block;
    const bool promoted = last || since_promotion_ == problem_.sum.promotion;
    for (std::size_t j = 0; j < cols_; ++j) {
      if (since_promotion_ == block) f_[j] = f[j];
      FOURMI_CHECK(f[j] == f_[j] || std::isnan(f[j] + f_[j]), "scales of {} and {} between two promotions", f_[j],
                   f[j]);
      hopper_[j].add(a.data(), b[j].data(), count);
      if (!promoted) continue;
      sums_[j] = std::fma(f[j], hopper_[j].value(), sums_[j]);
      hopper_[j] = {};
    }
    if (promoted) since_promotion_ = 0;
  }

  const ScaledProblem& problem_;
  std::size_t cols_;
  std::array<float, width>& sums_;
  std::array<HopperAccumulator, width> hopper_;
  std::array<float, width> f_{};  ///< of the first group since the last promotion
  std::int64_t since_promotion_ = 0;
};

/// The sums of one row and `cols` columns over a part.
void run_part(const ScaledProblem& problem, const ScaledProduct& p, std::int64_t row, std::int64_t col,
              std::int64_t cols, const Part& part, std::array<float, width>& sums) {
  Block a;
  std::array<Block, width> b;
  std::array<float, width> f;
  sums.fill(0);
  Chains chains(problem, cols, sums);
  for (std::int64_t s = part.begin; s < part.end; s += block) {
    const std::int64_t count = std::min(block, part.end - s), group = part.group + (s - part.begin) / block;
    gather(p.a, problem, row, s, count, part, a);
    for (std::int64_t j = 0; j < cols; ++j)
      gather(p.b, problem, col + j, s, count, part, b[static_cast<std::size_t>(j)]);
    if (!problem.promotes()) {
      add_chains(a, b, cols, count, sums);
      continue;
    }
    for (std::int64_t j = 0; j < cols; ++j)
      f[static_cast<std::size_t>(j)] = p.a.scale(row, group) * p.b.scale(col + j, group);
    chains.add(a, b, count, f, s + count == part.end);
  }
}

void run_row(const ScaledProblem& problem, const ScaledProduct& p, std::int64_t row) {
  std::array<float, width> sums;
  Tree<float, width, tree_levels(max_leaves)> tree;
  for (std::int64_t col = 0; col < p.cols; col += width) {
    const std::int64_t cols = std::min(width, p.cols - col);
    Part part;
    do {
      part.end = p.part_end(part.begin);
      run_part(problem, p, row, col, cols, part, sums);
      if (p.leaves == 1) {
        finish(p.out, row, col, 1, cols, sums.data(), width);
      } else {
        std::copy_n(sums.data(), cols, tree.next());
        tree.take(cols);
      }
      part.group += ScaledFormat::num_blocks(part.end - part.begin, problem.group);
      part.begin = part.end;
    } while (part.begin < p.sum);
    if (p.leaves > 1) finish(p.out, row, col, 1, cols, tree.root(cols), width);
  }
}

}  // namespace

void run_scaled_portable(const Stream& stream, const ScaledProblem& problem) {
  for (std::int64_t g = 0; g < problem.call.num_groups(); ++g) {
    const ScaledProduct p = problem.product(g);
    stream.pool().parallel_for(p.rows, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) run_row(problem, p, row);
    });
  }
}

}  // namespace fourmi::linear
