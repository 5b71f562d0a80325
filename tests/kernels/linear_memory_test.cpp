// How much working memory a grouped product takes depends on its shapes alone, not on how many rows an expert happens
// to have: else a router that changes its mind late in a run would make it grow.
#include <gtest/gtest.h>

#include <thread>

#include "kernels/runtime/working_memory.h"
#include "tests/kernels/float8_test_data.h"

namespace fourmi {
namespace {

// Forward sums of several blocks; those of the weight gradient are cut by the groups.
constexpr std::int64_t rows = 400, K = 600, N = 100;
using Offsets = std::vector<std::int32_t>;
const Offsets even{0, 100, 200, 300, 400}, all_in_one{0, 0, 400, 400, 400}, few{0, 1, 2, 399, 400};

template <class Product>
void expect_memory_of_shapes(const char* what, const Product& product) {
  for (const Offsets& first : {even, few})
    std::thread([&] {  // whose working memory is new
      product(first);
      const std::size_t bytes = WorkingMemory::mine().total_bytes();
      EXPECT_GT(bytes, 0u) << what;
      for (const Offsets& other : {even, all_in_one, few}) {
        product(other);
        EXPECT_EQ(WorkingMemory::mine().total_bytes(), bytes) << what;
      }
    })
        .join();
}

TEST(LinearMemory, DoesNotDependOnTheCutIntoGroups) {
  for (Isa isa : {Isa::avx2, Isa::avx512})
    for (DType dtype : {DType::f32, DType::bf16}) {
      if (!has_isa(isa)) continue;
      ThreadPool pool(1);
      const Stream stream(pool, isa);
      test::Random random(1);
      test::TypedBuffer x({rows, K}, dtype), w({4, N, K}, dtype), y({rows, N}, dtype), dw({4, N, K}, DType::f32);
      x.fill(random), w.fill(random), y.fill(random), dw.fill_zero();
      expect_memory_of_shapes("forward", [&](const Offsets& offsets) {
        grouped_linear_forward(stream, x.tensor(), w.tensor(), offsets, y.tensor());
      });
      expect_memory_of_shapes("forward with leaves", [&](const Offsets& offsets) {
        grouped_linear_forward(stream, x.tensor(), w.tensor(), offsets, y.tensor(), 8);
      });
      expect_memory_of_shapes("backward_input", [&](const Offsets& offsets) {
        grouped_linear_backward_input(stream, y.tensor(), w.tensor(), offsets, x.tensor());
      });
      expect_memory_of_shapes("backward_weight", [&](const Offsets& offsets) {
        grouped_linear_backward_weight(stream, y.tensor(), x.tensor(), offsets, dw.tensor());
      });
    }
}

TEST(LinearMemory, OfFp8DoesNotDependOnTheCutIntoGroups) {
  for (Isa isa : {Isa::avx2, Isa::avx512})
    for (const std::int64_t group_rows : {128, 32}) {
      if (!has_isa(isa)) continue;
      ThreadPool pool(1);
      const Stream stream(pool, isa);
      const DType dtype = group_rows == 32 ? DType::mxe4m3_rows : DType::e4m3_rows;
      test::Random random(1);
      test::Float8 x(dtype, 0, rows, K), w(group_rows == 32 ? dtype : DType::e4m3_panels, 4, N, K);
      test::TypedBuffer y({rows, N}, DType::bf16), dw({4, N, K}, DType::f32);
      x.randomise(random), w.randomise(random), dw.fill_zero();
      expect_memory_of_shapes("forward", [&](const Offsets& offsets) {
        grouped_linear_forward(stream, x.tensor(), w.tensor(), offsets, y.tensor());
      });
      expect_memory_of_shapes("backward_weight", [&](const Offsets& offsets) {
        const auto groups = test::group_of_rows(offsets, rows, {}, group_rows);
        test::Columns xc({rows, K}, groups, group_rows), yc({rows, N}, groups, group_rows);
        xc.randomise(random), yc.randomise(random);
        grouped_linear_backward_weight(stream, yc.scaled(), xc.scaled(), offsets, dw.tensor());
      });
    }
}

}  // namespace
}  // namespace fourmi
