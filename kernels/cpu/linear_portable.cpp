// Linear maps, tier portable: the definition of docs/numerics.md "Linear" written down, element by element.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cpu/linear_finish.h"
#include "kernels/cpu/tree.h"
#include "kernels/numerics/flush_denormals.h"

namespace fourmi::linear {
namespace {

template <class T>
T chain(const T* a, std::int64_t a_step, const T* b, std::int64_t b_step, std::int64_t count) {
  T c = 0;
  for (std::int64_t s = 0; s < count; ++s) c = std::fma(a[s * a_step], b[s * b_step], c);
  return c;
}

/// The caller of run_chains holds a FlushDenormals.
float chain(const bfloat16* a, std::int64_t a_step, const bfloat16* b, std::int64_t b_step, std::int64_t count) {
  float c = 0;
  for (std::int64_t s = 0; s < count; s += 2) {
    const bool padded = s + 1 == count;
    const float a_odd = padded ? 0.0F : static_cast<float>(a[(s + 1) * a_step]);
    const float b_odd = padded ? 0.0F : static_cast<float>(b[(s + 1) * b_step]);
    c = std::fma(a_odd, b_odd, c);
    c = std::fma(static_cast<float>(a[s * a_step]), static_cast<float>(b[s * b_step]), c);
  }
  return c;
}

/// The chains of one row and `cols` columns over the part [begin, end) of the sum.
template <class T>
[[gnu::noinline]] void run_chains(const Product<T>& p, std::int64_t row, std::int64_t col, std::int64_t cols,
                                  std::int64_t begin, std::int64_t end, Accumulator<T>* chains) {
  const T* a = p.a + row * p.a_row + begin * p.a_sum;
  const T* b = p.b + col * p.b_col + begin * p.b_sum;
  for (std::int64_t j = 0; j < cols; ++j) chains[j] = chain(a, p.a_sum, b + j * p.b_col, p.b_sum, end - begin);
}

template <class T>
void run_row(const Product<T>& p, std::int64_t row) {
  constexpr std::int64_t width = 64;  // chains are finished in runs, because the guard must not cover the finish
  std::array<Accumulator<T>, width> chains;
  Tree<Accumulator<T>, width, tree_levels(max_leaves)> tree;
  for (std::int64_t col = 0; col < p.cols; col += width) {
    const std::int64_t cols = std::min(width, p.cols - col);
    std::int64_t begin = 0, end = 0;
    do {
      end = p.part_end(begin);
      {
        const FlushDenormals guard(std::is_same_v<T, bfloat16>);
        run_chains(p, row, col, cols, begin, end, chains.data());
      }
      if (p.leaves == 1) {
        finish(p.out, row, col, 1, cols, chains.data(), width);
      } else {
        std::copy_n(chains.data(), cols, tree.next());
        tree.take(cols);
      }
      begin = end;
    } while (begin < p.sum);
    if (p.leaves > 1) finish(p.out, row, col, 1, cols, tree.root(cols), width);
  }
}

}  // namespace

template <class T>
void run_portable(const Stream& stream, const Problem& problem) {
  for (std::int64_t g = 0; g < problem.num_groups(); ++g) {
    const Product<T> p = problem.product<T>(g);
    stream.pool().parallel_for(p.rows, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) run_row(p, row);
    });
  }
}

template void run_portable<double>(const Stream&, const Problem&);
template void run_portable<float>(const Stream&, const Problem&);
template void run_portable<bfloat16>(const Stream&, const Problem&);

}  // namespace fourmi::linear
